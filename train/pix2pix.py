"""pix2pix under four objectives ("A Comparative Study of Generative Adversarial Networks").

    accelerate launch train/pix2pix.py --dataset_name data/photos --objective lsgan \
        --lambda_l1 100 --lambda_l2 0 --output_dir runs/pix2pix-lsgan-l1

The paper's eight are gan, lsgan, ebgan and wgan, each with --lambda_l1 100 --lambda_l2 0 and with
--lambda_l1 0 --lambda_l2 1. The critic scores patches; of ebgan it is an auto-encoder, whose error
is the energy. wgan clips the critic's weights, gives it five steps for each of the generator's, and
trains slowly by RMSprop, as Arjovsky et al. 2017 do.

Against colours that average to grey there are, all off by default, `--saturation_weight`,
`--lambda_feature`, `--ema_decay` and `--gradient_accumulation_steps`: see docs/study.md.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR

from colorhub import losses
from colorhub.critics import CriticConfig, EnergyCritic, PatchCritic
from colorhub.errors import OptionError
from colorhub.generators import UNet
from colorhub.launch import main
from colorhub.objectives import EBGAN, OBJECTIVES, clip_weights, pull_away
from colorhub.options import Options
from colorhub.teachers import features_of, picture
from colorhub.training import Run


@dataclass(frozen=True)
class Config(Options):
    """Options of pix2pix."""

    network: UNet.Config = field(default_factory=UNet.Config)
    critic: CriticConfig = field(default_factory=CriticConfig)
    objective: Literal["gan", "lsgan", "ebgan", "wgan"] = "gan"
    """What generator and critic are trained towards."""
    output_dir: Path = Path("runs/pix2pix")
    """Folder of the variant, with checkpoints/ beside it."""
    learning_rate: float = 0.0
    """Learning rate of both optimisers; 0 takes the paper's: 5e-5 of wgan, 2e-4 of the others."""
    n_critic: int = 0
    """Critic's steps for each of the generator's; 0 takes the paper's: 5 of wgan, 1 of others."""
    lambda_l1: float = 100.0
    """Weight of the L1 distance to the true ab."""
    lambda_l2: float = 0.0
    """Weight of the mean squared distance to the true ab."""
    lambda_adv: float = 1.0
    """Weight of the critic's score in the generator's loss; at 0 no critic is trained."""
    saturation_weight: float = 0.0
    """Added weight of a pixel with a chroma of 20 Lab units, in the L1 distance."""
    lambda_feature: float = 0.0
    """Weight of the L1 distance of a backbone's features of the coloured and the true photo."""
    teacher: str | None = None
    """The backbone that gives those features: a .safetensors file, or a Hub repository of timm's
    such as timm/mobilenetv2_100.ra_in1k."""
    teacher_network: Literal["mobilenet_v2_100", "mobilenet_edgetpu_075"] = "mobilenet_v2_100"
    """Which MobileNet the teacher is."""
    margin: float = 1.0
    """Energy up to which ebgan's critic raises that of coloured photos."""
    lambda_pt: float = 0.1
    """Weight of ebgan's pull-away term in the generator's loss."""
    clip: float = 0.05
    """Largest weight of wgan's critic."""
    adam_beta1: float = 0.5
    """Adam's decay of the first moment, in both optimisers but wgan's."""
    adam_beta2: float = 0.999
    """Adam's decay of the second moment, in both optimisers but wgan's."""
    lr_scheduler: Literal["constant", "cosine"] = "constant"
    """Keep both learning rates, or lower them to 0 over the whole run."""

    def __post_init__(self) -> None:
        wgan = self.objective == "wgan"
        if self.learning_rate == 0:
            object.__setattr__(self, "learning_rate", 5e-5 if wgan else 2e-4)
        if self.n_critic == 0:
            object.__setattr__(self, "n_critic", 5 if wgan and self.lambda_adv else 1)
        super().__post_init__()
        smallest = 3 * 2**self.critic.critic_depth
        if self.network.resolution < smallest:
            raise OptionError(
                f"--resolution {self.network.resolution} is too small for --critic_depth "
                f"{self.critic.critic_depth}: give {smallest} or more."
            )
        if not (self.lambda_l1 or self.lambda_l2):
            raise OptionError("--lambda_l1 and --lambda_l2 are both 0: nothing asks for the truth.")
        if bool(self.lambda_feature) != bool(self.teacher):
            raise OptionError("--lambda_feature and --teacher need each other.")
        if self.saturation_weight < 0:
            raise OptionError("--saturation_weight must be 0 or more.")
        EBGAN(self.margin)  # which refuses what is no margin
        if self.n_critic < 1:
            raise OptionError(f"--n_critic is {self.n_critic}; it must be 0 or more.")
        if not self.clip > 0:
            raise OptionError(f"--clip is {self.clip}; it must be more than 0.")


def train(config: Config) -> None:
    run = Run(config, network=config.network, script=__file__)
    generator = run.start(UNet(config.network))
    # The critic bare of DDP, which would wait for gradients that the generator's turn never makes.
    energy = config.objective == "ebgan"
    critic = judge = (EnergyCritic if energy else PatchCritic)(config.critic)
    betas = config.adam_beta1, config.adam_beta2
    optimizer = (
        partial(torch.optim.RMSprop, lr=config.learning_rate)
        if config.objective == "wgan"
        else partial(torch.optim.Adam, lr=config.learning_rate, betas=betas, fused=True)
    )
    generator_optimizer = optimizer(generator.parameters())
    critic_optimizer = optimizer(critic.parameters())
    generator_factor = run.schedule(config.lr_scheduler, every=config.n_critic)
    critic_factor = run.schedule(config.lr_scheduler)
    (
        generator,
        critic,
        generator_optimizer,
        critic_optimizer,
        generator_scheduler,
        critic_scheduler,
    ) = run.prepare(
        generator=generator,
        critic=critic,
        generator_optimizer=generator_optimizer,
        critic_optimizer=critic_optimizer,
        generator_scheduler=LambdaLR(generator_optimizer, generator_factor),
        critic_scheduler=LambdaLR(critic_optimizer, critic_factor),
    )
    objective = EBGAN(config.margin) if energy else OBJECTIVES[config.objective]()
    gain = config.network.ab_gain
    teacher = None
    if config.teacher:
        teacher = features_of(config.teacher, config.teacher_network, run.accelerator)

    for _ in run.epochs():
        for step, (lightness, ab) in run.batches():  # (N, 1, R, R), (N, 2, R, R), in [-1, 1]
            generator_turn = step % config.n_critic == 0
            with torch.set_grad_enabled(generator_turn):
                fake = generator(lightness)

            if config.lambda_adv:
                critic.requires_grad_(True)
                scores = critic(lightness, ab), critic(lightness, fake.detach())
                critic_loss = objective.critic(*scores)
                run.accelerator.backward(critic_loss)
                critic_optimizer.step()
                critic_optimizer.zero_grad()
                if config.objective == "wgan" and run.steps_now:
                    clip_weights(judge, config.clip)
                if run.steps_now:
                    critic_scheduler.step()
                run.report(critic=critic_loss, real=scores[0].mean(), fake=scores[1].mean())
                critic.requires_grad_(False)

            if generator_turn:
                weight = config.saturation_weight
                l1 = (
                    losses.smooth_l1(fake * gain, ab * gain, saturation_weight=weight, beta=0)
                    / gain
                )
                l2 = F.mse_loss(fake.float(), ab)
                generator_loss = config.lambda_l1 * l1 + config.lambda_l2 * l2
                if teacher:
                    with torch.no_grad():
                        wanted = teacher(picture(lightness, gain * ab))
                    features = losses.features(teacher(picture(lightness, gain * fake)), wanted)
                    generator_loss = generator_loss + config.lambda_feature * features
                    run.report(features=features)
                if config.lambda_adv:
                    if energy:
                        energies, maps = judge(lightness, fake, embedding=True)
                        repelling = config.lambda_pt * pull_away(maps)
                        adversarial = objective.generator(energies) + repelling
                    else:
                        adversarial = objective.generator(judge(lightness, fake))
                    generator_loss = generator_loss + config.lambda_adv * adversarial
                run.accelerator.backward(generator_loss)
                generator_optimizer.step()
                generator_optimizer.zero_grad()
                if run.steps_now:
                    generator_scheduler.step()
                run.report(generator=generator_loss, l1=l1, l2=l2)
    run.finish()


if __name__ == "__main__":
    main(Config, train)
