"""The task of runs that learn to draw: pictures, sheets, and a distance to real ones."""

import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from colorhub import sampling, weights
from colorhub.data import Rows, crop, decode_row, guarded, rows_of
from colorhub.digits import digit_rows, is_digits
from colorhub.errors import DataError
from colorhub.frechet import DigitJudge
from colorhub.generators import KINDS
from colorhub.options import Options
from colorhub.provenance import dataset_facts

_SHOWN = 64  # pictures of a sheet of samples
_LUMA = (0.299, 0.587, 0.114)  # of Rec. 601, as Pillow has it


def drawing_rows(config: Options, split: str) -> Rows:
    """One split of the data that the options name: MNIST's files, or any image data set."""
    if is_digits(config.dataset_name):
        assert config.dataset_name is not None
        return digit_rows(config.dataset_name, split)
    return rows_of(config, split)


@dataclass(frozen=True)
class Frame:
    """A view (see `batches.View`) that takes grey pictures as well."""

    zoom: float = 1.0
    """Up to how much a picture's short side is enlarged before it is cropped; 1 keeps it."""
    flips: bool = False
    """Whether pictures are mirrored half of the time."""
    keeps_grey: ClassVar[bool] = True

    def __call__(self, photo: Image.Image, resolution: int, draw: random.Random) -> Image.Image:
        """A random square of `resolution` pixels."""
        return crop(photo, resolution, draw, zoom=self.zoom, flips=self.flips)


class Drawing:
    """Pictures in [-1, 1], a sheet of what noise becomes, and how far it is from real digits."""

    def __init__(self, config: Options, channels: int, resolution: int) -> None:
        self.config = config
        self.channels = channels
        self.resolution = resolution

    def batch(self, photos: Tensor) -> tuple[Tensor, ...]:
        """(pictures (N, C, R, R) in [-1, 1],)"""
        pictures = photos.float() / 127.5 - 1
        if self.channels == 1:
            weight = pictures.new_tensor(_LUMA).view(1, 3, 1, 1)
            pictures = (weight * pictures).sum(1, keepdim=True)
        return (pictures.to(memory_format=torch.channels_last),)

    def statistics(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """None."""
        return {}

    def samples(self, generator: Any, device: str) -> Image.Image:
        """A sheet of 64 pictures, of the same noise each time."""
        drawn = sampling.draw(generator.eval(), _SHOWN, device=device)
        return sampling.sheet(sampling.pictures(drawn))

    def real(self, split: str, most: int) -> Tensor:
        """The first pictures of a split, their middle: (N, C, R, R) in [-1, 1]. Raises DataError"""
        frame, draw = Frame(), random.Random(0)
        rows = guarded(drawing_rows(self.config, split))
        squares = [
            np.asarray(frame(decode_row(row), self.resolution, draw)) for row in islice(rows, most)
        ]
        if not squares:
            raise DataError(f"The {split} split holds no picture to measure by.")
        return self.batch(torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2))[0]

    def judge(self, folder: Path, split: str, most: int) -> DigitJudge:
        """A classifier that compares what is drawn with a split's first pictures."""
        return DigitJudge(folder, self.real(split, most).contiguous())

    def measure(self, folder: Path, split: str, device: str) -> tuple[dict[str, Any], ...]:
        """The Frechet distance, that of real digits, and how often each digit is drawn."""
        config: Any = self.config  # of train/noise.py
        judge = self.judge(config.quality_from, split, config.quality_images)
        generator = weights.load(folder, KINDS["noise"])
        count = len(judge.real)
        seen = judge.features(sampling.draw(generator, count))
        taught = judge.features(self.real(config.train_split, count).contiguous())
        rows = [
            [name, f"{judge.distance_of(features):.2f}", _span(judge.shares(features))]
            for name, features in (("this variant", seen), ("training digits", taught))
        ]
        about = (
            f"Frechet distance to {count:,} digits of the split {split}, on the features of our "
            "own classifier of digits (train/classifier.py), and how often the rarest and the "
            f"commonest of the ten are seen; {count:,} pictures each, seed 0:"
        )
        heads = ["", "Frechet distance ↓", "rarest and commonest digit"]
        facts = dataset_facts(config.dataset_name, split, drawing_rows(config, split))
        return facts, {"tables": [{"about": about, "heads": heads, "rows": rows}]}


def _span(shares: list[float]) -> str:
    return f"{min(shares):.1%}, {max(shares):.1%}"
