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

from colorhub import regression
from colorhub.augmentation import Square
from colorhub.errors import OptionError
from colorhub.generators import Fusion
from colorhub.launch import main
from colorhub.training import Run


@dataclass(frozen=True)
class Config(regression.Regression):
    """Options of the fusion models."""

    network: Fusion.Config = field(default_factory=Fusion.Config)
    extractor_from: str | None = None
    """The extractor's weights: of inception_resnet_v2 a .safetensors file or a Hub repository, by
    default timm's; of resnet34 the folder that train/classifier.py wrote."""
    output_dir: Path = Path("runs/fusion")
    """Folder of the variant, with checkpoints/ beside it."""
    shear: float = Square.shear
    """Degrees by which photos are sheared at the most."""
    zoom: float = Square.zoom
    """Share by which photos are made smaller or larger at the most."""
    rotation: float = Square.rotation
    """Degrees by which photos are turned at the most."""
    flip: bool = Square.flip
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
    generator = run.start(Fusion(config.network))
    if config.extractor_from or not config.init_from:
        regression.load_extractor(generator, config.extractor_from)
    regression.train(run, generator, config)


if __name__ == "__main__":
    main(Config, train)
