"""Training by the mean squared error of ab alone, as the encoder-decoders of two papers have it."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from colorhub.errors import OptionError
from colorhub.options import Options
from colorhub.training import Run


@dataclass(frozen=True)
class Regression(Options):
    """Options of training by mean squared error; the thesis's values."""

    train_batch_size: int = 20
    """Photos a step, for each process."""
    learning_rate: float = 1e-3
    """Learning rate of Adam at the start."""
    patience: int = 3
    """Epochs in a row without a lower loss at which the learning rate is halved, down to 1e-5."""
    lr_scheduler: Literal["plateau", "cosine"] = "plateau"
    """Halve the learning rate so, or lower it to 0 over the whole run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience < 1:
            raise OptionError(f"--patience is {self.patience}; it must be 1 or more.")


def train(run: Run, generator: nn.Module, config: Regression) -> None:
    """Train the run's generator to its end, those of its weights that want a gradient.

    The last weights are published; the thesis keeps those of the epoch with the lowest loss.
    """
    weights = [weight for weight in generator.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=config.learning_rate, fused=True)
    cosine = config.lr_scheduler == "cosine"
    scheduler: Any = (
        LambdaLR(optimizer, run.schedule("cosine"))
        if cosine  # torch halves at the epoch after its patience, Keras at the last of it
        else ReduceLROnPlateau(optimizer, factor=0.5, patience=config.patience - 1, min_lr=1e-5)
    )
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
