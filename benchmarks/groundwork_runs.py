"""The runs of docs/groundwork.md, in the order in which they matter."""

from dataclasses import dataclass
from typing import Literal

DIGITS = (
    "--dataset_name {digits} --resolution 28 --channels 1 --quality_from {classifier} "
    "--validation_split test --validation_epochs 2"
)
DCGAN = "--architecture dcgan --width 32 --critic_width 32"
EBGAN = "--architecture dcgan --width 32 --critic_width 16"
MLP = "--architecture mlp --width 32 --critic_width 32"
PHOTOS = "--architecture dcgan --flips --zoom 1.1 --train_batch_size 32 --validation_epochs 10"
SCENES = f"--dataset_name {{scenes}} --resolution 128 --width 16 --critic_width 16 {PHOTOS}"
PEOPLE = f"--dataset_name {{people}} --resolution 64 --width 16 --critic_width 16 {PHOTOS}"
SOURCES = {  # of the photos, by their column "source"
    "scenes": ("intel-scenes",),
    "people": ("lsp-extended", "street-fashion"),
}


@dataclass(frozen=True)
class Run:
    """One training by train/noise.py, and where it belongs on the page."""

    name: str
    group: Literal["dcgan", "mlp", "rate", "photos"]
    options: str
    every: int = 100  # steps that a row of the log averages over, and between two measurements


RUNS = (
    Run("dcgan-lsgan", "dcgan", f"{DIGITS} {DCGAN} --num_train_epochs 4 --objective lsgan"),
    Run("dcgan-gan", "dcgan", f"{DIGITS} {DCGAN} --num_train_epochs 4 --objective gan"),
    # Of wgan's steps one in five is the generator's: it is given twice the epochs.
    Run("dcgan-wgan", "dcgan", f"{DIGITS} {DCGAN} --objective wgan --num_train_epochs 8", 200),
    # The auto-encoder takes twice a critic's work: it is given half the width.
    Run("dcgan-ebgan", "dcgan", f"{DIGITS} {EBGAN} --num_train_epochs 4 --objective ebgan"),
    Run("mlp-gan", "mlp", f"{DIGITS} {MLP} --num_train_epochs 2 --objective gan"),
    Run("mlp-lsgan", "mlp", f"{DIGITS} {MLP} --num_train_epochs 2 --objective lsgan"),
    Run("mlp-wgan", "mlp", f"{DIGITS} {MLP} --objective wgan --num_train_epochs 4", 200),
    Run("mlp-ebgan", "mlp", f"{DIGITS} {MLP} --num_train_epochs 2 --objective ebgan"),
    Run(
        "dcgan-gan-slow",
        "rate",
        f"{DIGITS} {DCGAN} --num_train_epochs 2 --objective gan --learning_rate 1e-4",
    ),
    Run("scenes-lsgan", "photos", f"{SCENES} --num_train_epochs 10 --objective lsgan", 25),
    Run("people-ebgan-pt", "photos", f"{PEOPLE} --num_train_epochs 12 --objective ebgan", 25),
    Run(
        "people-ebgan",
        "photos",
        f"{PEOPLE} --num_train_epochs 12 --objective ebgan --lambda_pt 0",
        25,
    ),
    Run("people-wgan", "photos", f"{PEOPLE} --num_train_epochs 24 --objective wgan", 50),
)
