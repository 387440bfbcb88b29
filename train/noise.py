"""Pictures from noise, the groundwork of "A Comparative Study of Generative Adversarial Networks".

    accelerate launch train/noise.py --dataset_name data/mnist --architecture dcgan \
        --objective lsgan --resolution 28 --channels 1 --output_dir runs/digits

Multilayer perceptrons or a DCGAN under the four objectives of train/pix2pix.py. `--dataset_name`
may be a folder with MNIST's IDX files. wgan clips the critic's weights, gives it five steps for
each of the generator's, and trains slowly by RMSprop, as Arjovsky et al. 2017 do; of ebgan the
critic is an auto-encoder, whose error is the energy.

With `--quality_from`, a classifier of digits by train/classifier.py, the log also tells how far
what is drawn is from real digits: see docs/groundwork.md.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from colorhub import sampling
from colorhub.drawing import Drawing, Frame, drawing_rows
from colorhub.errors import OptionError
from colorhub.generators import DCGANGenerator, MLPGenerator
from colorhub.generators.noise import NoiseConfig, halvings
from colorhub.launch import main
from colorhub.objectives import EBGAN, OBJECTIVES, clip_weights, pull_away
from colorhub.options import Options
from colorhub.picture_critics import CRITICS, ENERGIES
from colorhub.ranks import draw_normal
from colorhub.training import Run

GENERATORS = {"mlp": MLPGenerator, "dcgan": DCGANGenerator}


@dataclass(frozen=True)
class Config(Options):
    """Options of pictures from noise."""

    network: NoiseConfig = field(default_factory=NoiseConfig)
    architecture: Literal["mlp", "dcgan"] = "dcgan"
    """Linear layers alone, or convolutions."""
    objective: Literal["gan", "lsgan", "ebgan", "wgan"] = "gan"
    """What generator and critic are trained towards."""
    critic_width: int = 64
    """Filters of the critic's first convolution; of mlp an eighth of its first layer."""
    output_dir: Path = Path("runs/noise")
    """Folder of the variant, with checkpoints/ beside it."""
    train_batch_size: int = 64
    """Pictures a step, for each process."""
    learning_rate: float = 0.0
    """Learning rate of both optimisers; 0 takes the paper's: 5e-5 of wgan, 2e-4 of the others."""
    n_critic: int = 0
    """Critic's steps for each of the generator's; 0 takes the paper's: 5 of wgan, 1 of others."""
    margin: float = 1.0
    """Energy up to which ebgan's critic raises that of drawn pictures."""
    lambda_pt: float = 0.1
    """Weight of ebgan's pull-away term in the generator's loss."""
    clip: float = 0.05
    """Largest weight of wgan's critic."""
    adam_beta1: float = 0.5
    """Adam's decay of the first moment, in both optimisers but wgan's."""
    adam_beta2: float = 0.999
    """Adam's decay of the second moment, in both optimisers but wgan's."""
    zoom: float = 1.0
    """Up to how much pictures are enlarged before they are cropped; 1 takes the whole short side"""
    flips: bool = False
    """Mirror pictures half of the time."""
    quality_from: Path | None = None
    """Folder of a classifier of digits, by which --validation_split is compared with pictures."""
    quality_steps: int = 100
    """Steps between two measurements of the Frechet distance in the log."""
    quality_images: int = 2000
    """Pictures that are drawn, and real ones that are read, to measure it."""

    def __post_init__(self) -> None:
        wgan = self.objective == "wgan"
        if self.learning_rate == 0:
            object.__setattr__(self, "learning_rate", 5e-5 if wgan else 2e-4)
        if self.n_critic == 0:
            object.__setattr__(self, "n_critic", 5 if wgan else 1)
        super().__post_init__()
        if self.architecture == "dcgan":
            halvings(self.network.resolution)  # which refuses what has no halves
        elif self.train_batch_size < 2:
            raise OptionError("--architecture mlp has batch norm: give 2 or more a batch.")
        if self.critic_width < 1 or self.n_critic < 1:
            raise OptionError("--critic_width and --n_critic must be 1 or more.")
        EBGAN(self.margin)  # which refuses what is no margin
        if not self.clip > 0:
            raise OptionError(f"--clip is {self.clip}; it must be more than 0.")
        if not self.zoom >= 1:
            raise OptionError(f"--zoom is {self.zoom}; it must be 1 or more.")
        if bool(self.quality_from) != bool(self.validation_split):
            raise OptionError("--quality_from and --validation_split need each other.")
        if self.quality_from and self.quality_images < 2:
            raise OptionError("--quality_images must be 2 or more: a distance is between many.")


def train(config: Config) -> None:
    network = config.network
    task = Drawing(config, network.channels, network.resolution)
    run = Run(
        config,
        network=network,
        script=__file__,
        view=Frame(config.zoom, config.flips),
        task=task,
        rows=drawing_rows(config, config.train_split),
    )
    generator = run.start(GENERATORS[config.architecture](network))
    # The critic bare of DDP, which would wait for gradients that the generator's turn never makes.
    energy = config.objective == "ebgan"
    critics = ENERGIES if energy else CRITICS
    critic = judge = critics[config.architecture](network, config.critic_width)
    betas = config.adam_beta1, config.adam_beta2
    optimizer = (
        partial(torch.optim.RMSprop, lr=config.learning_rate)
        if config.objective == "wgan"
        else partial(torch.optim.Adam, lr=config.learning_rate, betas=betas, fused=True)
    )
    generator, critic, generator_optimizer, critic_optimizer = run.prepare(
        generator=generator,
        critic=critic,
        generator_optimizer=optimizer(generator.parameters()),
        critic_optimizer=optimizer(critic.parameters()),
    )
    objective = EBGAN(config.margin) if energy else OBJECTIVES[config.objective]()
    quality = None
    if config.quality_from:
        split = config.validation_split or ""
        quality = task.judge(config.quality_from, split, config.quality_images)

    for _ in run.epochs():
        for step, (real,) in run.batches():  # (N, C, R, R), in [-1, 1]
            generator_turn = step % config.n_critic == 0
            noise = draw_normal(len(real), network.noise_dim, like=real)
            with torch.set_grad_enabled(generator_turn):
                fake = generator(noise)

            critic.requires_grad_(True)
            scores = critic(real), critic(fake.detach())
            critic_loss = objective.critic(*scores)
            run.accelerator.backward(critic_loss)
            critic_optimizer.step()
            critic_optimizer.zero_grad()
            if config.objective == "wgan" and run.steps_now:
                clip_weights(judge, config.clip)
            run.report(critic=critic_loss, real=scores[0].mean(), fake=scores[1].mean())
            critic.requires_grad_(False)

            if generator_turn:
                if energy:
                    energies, codes = judge(fake, embedding=True)
                    repelling = pull_away(codes)
                    generator_loss = objective.generator(energies) + config.lambda_pt * repelling
                    run.report(pull_away=repelling)
                else:
                    generator_loss = objective.generator(judge(fake))
                run.accelerator.backward(generator_loss)
                generator_optimizer.step()
                generator_optimizer.zero_grad()
                run.report(generator=generator_loss)

            if quality and run.steps_now and step % config.quality_steps == 0:
                drawn = sampling.draw(run.generator().eval(), len(quality.real), device=run.device)
                run.generator().train()
                run.report(frechet=critic_loss.new_tensor(quality.distance(drawn)))
    run.finish()


if __name__ == "__main__":
    main(Config, train)
