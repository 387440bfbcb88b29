"""Training by the mean squared error of ab alone, as the encoder-decoders of two papers have it."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from colorhub import hub, inception, weights
from colorhub.classifiers import ResNet34
from colorhub.errors import OptionError
from colorhub.generators import Fusion
from colorhub.inception import InceptionResNetV2
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
    generator, optimizer, scheduler = prepare(run, generator, config)
    cosine = config.lr_scheduler == "cosine"
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


def prepare(run: Run, generator: nn.Module, config: Regression) -> tuple[Any, ...]:
    """The generator, Adam for those of its weights that want a gradient, and its scheduler.

    A cosine's scheduler moves after each step, that of a plateau after each epoch.
    """
    learning = [weight for weight in generator.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=config.learning_rate, fused=True)
    scheduler: Any = (
        LambdaLR(optimizer, run.schedule("cosine"))
        if config.lr_scheduler == "cosine"
        # torch halves at the epoch after its patience, Keras at the last of it
        else ReduceLROnPlateau(optimizer, factor=0.5, patience=config.patience - 1, min_lr=1e-5)
    )
    return run.prepare(generator=generator, optimizer=optimizer, scheduler=scheduler)


def load_extractor(generator: Fusion, source: str | None) -> None:
    """Give a fusion model the extractor that --extractor_from names, by default timm's.

    Raises OptionError if it is another network than the model's own.
    """
    extractor = generator.extractor
    if isinstance(extractor, InceptionResNetV2):
        extractor.load_backbone(hub.backbone(source or inception.WEIGHTS))
        return
    assert source is not None
    taught = weights.load(source, {"ResNet34": ResNet34})
    if taught.config != extractor.config:
        raise OptionError(
            f"--extractor_from {source} is {taught.config}, this extractor {extractor.config}: "
            "give --extractor_width, and a network of train/classifier.py distill."
        )
    extractor.load_state_dict(taught.state_dict())
