"""MNIST's IDX files as a data set like any other."""

import os

import datasets

from colorhub.data import Rows, open_digits
from colorhub.errors import DataError

_FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)


def is_digits(name: str | None) -> bool:
    """Whether a data set's name is a folder that holds one of MNIST's four IDX files."""
    if name is None or not os.path.isdir(name):
        return False
    return any(entry.removesuffix(".gz") in _FILES for entry in os.listdir(name))


def digit_rows(folder: str | os.PathLike[str], split: str) -> Rows:
    """The digits of "train" or "test" as rows of `data.open_rows`. Raises DataError."""
    if split not in ("train", "test"):
        raise DataError(f"MNIST's files have the splits train and test, not {split!r}.")
    digits, _ = open_digits(folder, split)
    height, width = digits.shape[-2:]
    head = b"P5 %d %d 255\n" % (width, height)  # PGM: nothing to compress, nothing to decode
    levels = (digits * 255).round().byte().numpy()
    pictures = [{"bytes": head + each.tobytes(), "path": None} for each in levels]
    features = datasets.Features({"image": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict({"image": pictures}, features=features)
