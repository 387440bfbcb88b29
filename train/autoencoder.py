"""The basic CNN of "Residual networks and colorization": MSE on ab, no features, no critic.

    accelerate launch train/autoencoder.py --dataset_name data/photos --output_dir runs/autoencoder

Adam at 1e-3, halved when the epoch's loss has not fallen for `--patience` epochs, down to 1e-5.
"""

from dataclasses import dataclass, field
from pathlib import Path

from colorhub import regression
from colorhub.generators import Autoencoder
from colorhub.launch import main
from colorhub.training import Run


@dataclass(frozen=True)
class Config(regression.Regression):
    """Options of the basic CNN."""

    network: Autoencoder.Config = field(default_factory=Autoencoder.Config)
    output_dir: Path = Path("runs/autoencoder")
    """Folder of the variant, with checkpoints/ beside it."""


def train(config: Config) -> None:
    run = Run(config, network=config.network, script=__file__)
    regression.train(run, run.start(Autoencoder(config.network)), config)


if __name__ == "__main__":
    main(Config, train)
