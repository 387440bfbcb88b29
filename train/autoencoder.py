"""The basic CNN of "Residual networks and colorization": MSE on ab, no features, no critic.

    accelerate launch train/autoencoder.py --dataset_name data/photos --output_dir runs/autoencoder

Adam at 1e-3, halved when the epoch's loss has not fallen for `--patience` epochs, down to 1e-5.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from colorhub.generators import Autoencoder
from colorhub.launch import main
from colorhub.options import Options
from colorhub.training import Run


@dataclass(frozen=True)
class Config(Options):
    """Options of the basic CNN."""

    network: Autoencoder.Config = field(default_factory=Autoencoder.Config)
    train_batch_size: int = 20
    """Photos a step, for each process."""
    output_dir: Path = Path("runs/autoencoder")
    """Folder of the variant, with checkpoints/ beside it."""
    learning_rate: float = 1e-3
    """Learning rate at the start."""
    patience: int = 3
    """Epochs without a better loss before the learning rate is halved."""
    lr_scheduler: Literal["plateau", "cosine"] = "plateau"
    """Halve the learning rate so, or lower it to 0 over the whole run."""


def train(config: Config) -> None:
    run = Run(config, network=config.network, script=__file__)
    generator = run.start(Autoencoder(config.network))
    optimizer = torch.optim.Adam(generator.parameters(), lr=config.learning_rate)
    scheduler: Any = ReduceLROnPlateau(optimizer, factor=0.5, patience=config.patience, min_lr=1e-5)
    cosine = config.lr_scheduler == "cosine"
    if cosine:
        scheduler = LambdaLR(optimizer, run.schedule("cosine"))
    generator, optimizer, scheduler = run.prepare(
        generator=generator, optimizer=optimizer, scheduler=scheduler
    )

    for _ in run.epochs():
        for _, (lightness, ab) in run.batches():  # (N, 1, R, R), (N, 2, R, R), in [-1, 1]
            loss = F.mse_loss(generator(lightness).float(), ab)
            run.accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if cosine and run.steps_now:
                scheduler.step()
            run.report(mse=loss)
        if not cosine:
            scheduler.step(run.epoch_mean("mse"))
    run.finish()


if __name__ == "__main__":
    main(Config, train)
