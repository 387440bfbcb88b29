"""Colours by an encoder and decoder that are told what a classifier sees: MSE on ab.

    accelerate launch train/fusion.py --dataset_name data/photos --output_dir runs/fusion
    accelerate launch train/fusion.py --dataset_name data/paintings --encoder pooled \
        --decoder paintings --embedding logits --padding --output_dir runs/fusion-wide

The first is the thesis's model, the second that of tables 1 to 3 on paintings. The extractor is
Inception-ResNet-v2 with the ImageNet weights that timm publishes, fetched once; or, with
`--extractor resnet34 --extractor_from runs/extractor`, one by train/classifier.py. Adam at 1e-3,
halved when the epoch's loss has not fallen for `--patience` epochs, down to 1e-5.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from colorhub import hub, inception, weights
from colorhub.augmentation import Square
from colorhub.classifiers import ResNet34
from colorhub.errors import OptionError
from colorhub.generators import Fusion
from colorhub.inception import InceptionResNetV2
from colorhub.launch import main
from colorhub.options import Options
from colorhub.training import Run


@dataclass(frozen=True)
class Config(Options):
    """Options of the fusion models."""

    network: Fusion.Config = field(default_factory=Fusion.Config)
    extractor_from: str | None = None
    """The extractor's weights: of inception_resnet_v2 a .safetensors file or a Hub repository, by
    default timm's; of resnet34 the folder that train/classifier.py wrote."""
    train_batch_size: int = 20
    """Photos a step, for each process."""
    output_dir: Path = Path("runs/fusion")
    """Folder of the variant, with checkpoints/ beside it."""
    learning_rate: float = 1e-3
    """Learning rate at the start."""
    patience: int = 3
    """Epochs without a better loss before the learning rate is halved."""
    lr_scheduler: Literal["plateau", "cosine"] = "plateau"
    """Halve the learning rate so, or lower it to 0 over the whole run."""
    shear: float = 10.0
    """Degrees by which photos are sheared at the most."""
    zoom: float = 0.2
    """Share by which photos are made smaller or larger at the most."""
    rotation: float = 15.0
    """Degrees by which photos are turned at the most."""
    flip: bool = True
    """Mirror half of the photos."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network.extractor == "resnet34" and not (self.extractor_from or self.init_from):
            raise OptionError("--extractor resnet34 needs --extractor_from: train/classifier.py's.")

    @property
    def view(self) -> Square:
        """What is made of a photo before training sees it."""
        return Square(self.network.padding, self.shear, self.zoom, self.rotation, self.flip)


def train(config: Config) -> None:
    run = Run(config, network=config.network, script=__file__, view=config.view)
    generator = Fusion(config.network)
    if config.extractor_from or not config.init_from:
        _load_extractor(generator, config.extractor_from)
    generator = run.start(generator)
    trained = [weight for weight in generator.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config.learning_rate, fused=True)
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


def _load_extractor(generator: Fusion, source: str | None) -> None:
    extractor = generator.extractor
    if isinstance(extractor, InceptionResNetV2):
        extractor.load_backbone(hub.backbone(source or inception.WEIGHTS))
        return
    assert source is not None
    taught = weights.load(source, {"ResNet34": ResNet34})
    if taught.config != extractor.config:
        raise OptionError(
            f"--extractor_from {source} is {taught.config}: give --extractor_width "
            f"{taught.config.width} and {taught.config.classes} classes with shortcuts."
        )
    extractor.load_state_dict(taught.state_dict())


if __name__ == "__main__":
    main(Config, train)
