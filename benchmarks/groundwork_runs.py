"""The runs of docs/groundwork.md, in the order in which they matter."""

from dataclasses import dataclass
from typing import Literal

DIGITS = (
    "--dataset_name {digits} --resolution 28 --channels 1 --quality_from {classifier} "
    "--validation_split test --validation_epochs 2"
)
DCGAN = "--architecture dcgan --width 32 --critic_width 32 --num_train_epochs 6"
MLP = "--architecture mlp --num_train_epochs 8"
PHOTOS = "--architecture dcgan --width 32 --critic_width 32 --flips --zoom 1.1"
SCENES = f"--dataset_name {{scenes}} --resolution 128 {PHOTOS}"
PEOPLE = f"--dataset_name {{people}} --resolution 64 {PHOTOS}"


@dataclass(frozen=True)
class Run:
    """One training by train/noise.py, and where it belongs on the page."""

    name: str
    group: Literal["dcgan", "mlp", "rate", "seed", "photos"]
    options: str
    every: int = 100  # steps that a row of the log averages over, and between two measurements


RUNS = (
    Run("dcgan-lsgan", "dcgan", f"{DIGITS} {DCGAN} --objective lsgan"),
    Run("dcgan-gan", "dcgan", f"{DIGITS} {DCGAN} --objective gan"),
    # Of wgan's steps one in five is the generator's: it is given twice the epochs.
    Run("dcgan-wgan", "dcgan", f"{DIGITS} {DCGAN} --objective wgan --num_train_epochs 12", 200),
    Run("dcgan-ebgan", "dcgan", f"{DIGITS} {DCGAN} --objective ebgan"),
    Run("mlp-gan", "mlp", f"{DIGITS} {MLP} --objective gan"),
    Run("mlp-lsgan", "mlp", f"{DIGITS} {MLP} --objective lsgan"),
    Run("mlp-wgan", "mlp", f"{DIGITS} {MLP} --objective wgan --num_train_epochs 16", 200),
    Run("mlp-ebgan", "mlp", f"{DIGITS} {MLP} --objective ebgan"),
    Run("dcgan-gan-slow", "rate", f"{DIGITS} {DCGAN} --objective gan --learning_rate 1e-4"),
)
