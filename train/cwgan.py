"""Conditional WGAN with a residual U-Net ("Image Colorization with Conditional WGAN").

    accelerate launch train/cwgan.py --dataset_name data/photos --output_dir runs/cwgan

The generator lowers the L1 distance to the true ab and raises the critic's score; the critic
estimates the earth mover's distance between true and generated colours, held to slopes near 1 by
a gradient penalty and to flatness at real photos by R1. `--lambda_adv 0` is the paper's literal
generator loss; nothing asks the critic then, and it is not trained. Runs in bf16, fp16 or fp32; the
penalties are always fp32. What the paper leaves open are `--activation`, `--optimizer` and
`--noise_dim 0`: benchmarks/cwgan_sweep.sh is a list of commands that compares them.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR

from colorhub.critics import ConvCritic
from colorhub.errors import OptionError
from colorhub.generators import ResUNet
from colorhub.launch import full_precision, main
from colorhub.objectives import Wasserstein, gradient_penalty, r1_penalty
from colorhub.options import Options
from colorhub.training import Run

OPTIMIZERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "nadam": torch.optim.NAdam,
    "adamax": torch.optim.Adamax,
    "adadelta": torch.optim.Adadelta,
}


@dataclass(frozen=True)
class Config(Options):
    """Options of the conditional WGAN."""

    network: ResUNet.Config = field(default_factory=ResUNet.Config)
    critic: ConvCritic.Config = field(default_factory=ConvCritic.Config)
    num_train_epochs: int = 80
    """Passes over the data set."""
    output_dir: Path = Path("runs/cwgan")
    """Folder of the variant, with checkpoints/ beside it."""
    lambda_l1: float = 100.0
    """Weight of the L1 distance to the true ab."""
    lambda_adv: float = 1.0
    """Weight of the critic's score in the generator's loss."""
    lambda_gp: float = 10.0
    """Weight of the gradient penalty."""
    lambda_r1: float = 1.0
    """Weight of the R1 penalty."""
    n_critic: int = 1
    """Critic's steps for each of the generator's."""
    optimizer: Literal["adam", "nadam", "adamax", "adadelta"] = "adam"
    """Adam as in the paper, or another that it leaves open. Adadelta's own learning rate is 1."""
    adam_beta1: float = 0.5
    """Decay of the first moment, in both optimisers but Adadelta."""
    adam_beta2: float = 0.9
    """Decay of the second moment, in both optimisers but Adadelta."""
    lr_scheduler: Literal["constant", "cosine"] = "constant"
    """Keep both learning rates, or lower them to 0 over the whole run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        smallest = 2 ** (self.critic.critic_depth + 1)
        if self.network.resolution < smallest:
            raise OptionError(
                f"--resolution {self.network.resolution} is too small for --critic_depth "
                f"{self.critic.critic_depth}: give {smallest} or more."
            )
        if self.n_critic < 1:
            raise OptionError(f"--n_critic is {self.n_critic}; it must be 1 or more.")


def train(config: Config) -> None:
    run = Run(config, network=config.network, script=__file__)
    generator = run.start(ResUNet(config.network))
    # The critic bare of DDP, which would wait for gradients that the generator's turn never makes.
    critic = judge = ConvCritic(config.critic)
    moments: dict[str, Any] = {"betas": (config.adam_beta1, config.adam_beta2)}
    optimizer = partial(
        OPTIMIZERS[config.optimizer],
        lr=config.learning_rate,
        **({} if config.optimizer == "adadelta" else moments),
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
    critic_fp32 = full_precision(judge)
    objective = Wasserstein()

    for _ in run.epochs():
        for step, (lightness, ab) in run.batches():  # (N, 1, R, R), (N, 2, R, R), in [-1, 1]
            generator_turn = step % config.n_critic == 0
            with torch.set_grad_enabled(generator_turn):
                fake = generator(lightness)

            if config.lambda_adv:
                critic.requires_grad_(True)
                scores = critic(lightness, ab), critic(lightness, fake.detach())
                distance = objective.critic(*scores)
                penalty = gradient_penalty(critic_fp32, lightness, ab, fake)
                r1 = r1_penalty(critic_fp32, lightness, ab)
                critic_loss = distance + config.lambda_gp * penalty + config.lambda_r1 * r1
                run.accelerator.backward(critic_loss)
                critic_optimizer.step()
                critic_optimizer.zero_grad()
                if run.steps_now:
                    critic_scheduler.step()
                run.report(critic=critic_loss, distance=-distance, penalty=penalty, r1=r1)
                critic.requires_grad_(False)

            if generator_turn:
                l1 = F.l1_loss(fake.float(), ab)
                generator_loss = config.lambda_l1 * l1
                if config.lambda_adv:
                    adversarial = objective.generator(judge(lightness, fake))
                    generator_loss = generator_loss + config.lambda_adv * adversarial
                run.accelerator.backward(generator_loss)
                generator_optimizer.step()
                generator_optimizer.zero_grad()
                if run.steps_now:
                    generator_scheduler.step()
                run.report(generator=generator_loss, l1=l1)
    run.finish()


if __name__ == "__main__":
    main(Config, train)
