"""The study's recipes: a variant's name to the options of its script, at a budget.

At the budget "paper" they are the papers' own, the scripts' defaults. At "cpu" networks are narrow,
pictures have 128 pixels or less and epochs are few: hours of two CPU cores, not days of a GPU.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One run: train/`script`.py with `options`, and at the budget "cpu" with `cpu` as well.

    `{runs}` in an option stands for the folder of all runs, `{teacher}`, `{teacher_network}`,
    `{backbone}` and `{digits}` for those of the study.
    """

    name: str
    script: str
    options: str = ""
    cpu: str = ""
    variant: bool = True  # not a part that others start from, nor an option tried out
    precision: str = "bf16"
    budgets: tuple[str, ...] = ("cpu", "paper")  # that have a use for it

    @property
    def done(self) -> str:
        """The file that its script writes last."""
        return "curves.png" if self.script == "classifier" else "README.md"


_SMALL = "--width 28 --depth 5 --critic_width 24 --resolution 96 --dropout 0 --train_batch_size 8"
_SMALL += " --lr_scheduler cosine"
_START = f"--init_from {{runs}}/pix2pix-start {_SMALL} --num_train_epochs 2"
# The paper does not say how much the critic weighs. In so short a run it must be little, or colours
# are noise: as much as the distance has of a pull, which is some hundred times less by L2.
_CRITIC = {"l1": "--lambda_adv 0.1", "l2": "--lambda_adv 0.001"}
_TOLD = "--extractor resnet34 --extractor_from {runs}/extractor --extractor_width 32"
_TOLD += " --extractor_size 128 --resolution 128 --lr_scheduler cosine"
_RECONSTRUCTIONS = {"l1": "--lambda_l1 100 --lambda_l2 0", "l2": "--lambda_l1 0 --lambda_l2 1"}
_DIGITS = "digits --data_folder {digits}"  # as the thesis has it at either budget
# What pix2pix-lsgan-l1 becomes by one option, most of them against grey mush: name, option.
_OPTIONS = {
    "adversarial": "--lambda_adv 1",
    "saturation": "--saturation_weight 1",
    "feature": "--lambda_feature 10 --teacher {backbone}",
    "ema": "--ema_decay 0.999",
    "batch": "--gradient_accumulation_steps 4",
}

RECIPES = (
    Recipe(
        "cwgan",
        "cwgan",
        cpu="--resolution 96 --width 12 --depth 5 --dropout 0.05 --noise_dim 8 --critic_width 24 "
        "--learning_rate 1e-3 --lambda_adv 0.1 --lr_scheduler cosine --num_train_epochs 6",
    ),
    # Eight GANs of one budget begin with the same colours, learned without a critic.
    Recipe(
        "pix2pix-start",
        "pix2pix",
        "--lambda_adv 0",
        _SMALL.replace("--critic_width 24 ", "") + " --learning_rate 4e-4 --num_train_epochs 12",
        variant=False,
        budgets=("cpu",),
    ),
    *(
        Recipe(
            f"pix2pix-{objective}-{name}",
            "pix2pix",
            f"--objective {objective} {weights}",
            f"{_START} {_CRITIC[name]} --learning_rate {'5e-5' if objective == 'wgan' else '1e-4'}",
        )
        for objective in ("gan", "lsgan", "ebgan", "wgan")
        for name, weights in _RECONSTRUCTIONS.items()
    ),
    Recipe(
        "extractor",
        "classifier",
        "distill --teacher {teacher} --teacher_network {teacher_network}",
        "--num_train_epochs 10",
        variant=False,
        budgets=("cpu",),
    ),
    Recipe("fusion", "fusion", cpu=f"{_TOLD} --width 48 --num_train_epochs 7"),
    Recipe(
        "fusion-wide",
        "fusion",
        "--encoder pooled --decoder paintings --embedding logits --padding",
        f"{_TOLD} --width 32 --num_train_epochs 5",
    ),
    Recipe(
        "autoencoder",
        "autoencoder",
        cpu="--resolution 128 --width 48 --lr_scheduler cosine --num_train_epochs 6",
    ),
    *(
        Recipe(
            f"lsgan-l1-{name}",
            "pix2pix",
            f"--objective lsgan {_RECONSTRUCTIONS['l1']} {options}",
            f"{_START} --learning_rate 1e-4 {_CRITIC['l1'] * ('lambda_adv' not in options)}",
            variant=False,
        )
        for name, options in _OPTIONS.items()
    ),
    Recipe("resnet34", "classifier", _DIGITS, variant=False, precision="no"),
    Recipe("convnet34", "classifier", f"{_DIGITS} --no-shortcuts", variant=False, precision="no"),
)
