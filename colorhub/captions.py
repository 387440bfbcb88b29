"""Captions that travel with their photos: how a data set of photos and sentences is seen."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from colorhub.data import Row, Rows, crop, guarded, row_name
from colorhub.errors import DataError, PhotoError
from colorhub.vocabulary import WORDS, Vocabulary

ZOOM = 1.1  # a photo's short side over the crop's, at the most


def captions_of(value: Any) -> list[str]:
    """What a caption column holds, one caption or several, as a list. Raises DataError."""
    values = value if isinstance(value, (list, tuple)) else [value]
    captions = [caption for caption in values if caption is not None]
    if not all(isinstance(caption, str) for caption in captions):
        raise DataError(
            f"The caption column holds {value!r}; it must hold a text or a list of texts."
        )
    return captions


def middle(photo: Image.Image, resolution: int) -> Image.Image:
    """The square in the middle of a photo, brought to `resolution` pixels."""
    side = min(photo.size)
    left, top = (photo.width - side) / 2, (photo.height - side) / 2
    box = (left, top, left + side, top + side)
    return photo.resize((resolution, resolution), Image.Resampling.BICUBIC, box=box)


def all_captions(rows: Rows, column: str) -> Iterator[str]:
    """Every caption of some rows, without their pictures. Raises DataError."""
    for row in guarded(rows.select_columns([column])):
        yield from captions_of(row[column])


@dataclass(frozen=True)
class Captioned:
    """A view for `batches.PhotoBatches`: a photo's random square, and one of its captions in it.

    The square has a fourth channel, whose first bytes are the numbers of the caption's 25 words,
    two bytes each: so captions are dealt out, pooled and resumed with their photos.
    """

    vocabulary: Vocabulary
    column: str
    drop: float = 0.0  # share of a caption's words that are left out, at random

    channels = 4

    def of_row(
        self, row: Row, photo: Image.Image, resolution: int, draw: random.Random
    ) -> np.ndarray:
        """(R, R, 4) bytes. Raises PhotoError if no caption of the row has a word that is known."""
        known = [self.vocabulary.known(each) for each in captions_of(row[self.column])]
        known = [words for words in known if words]
        if not known:
            raise PhotoError(f"{row_name(row)} has no caption of known words")
        words = draw.choice(known)
        kept = [word for word in words if draw.random() >= self.drop]
        ids = np.array(self.vocabulary.ids(kept or words), dtype="<u2")
        square = np.zeros((resolution, resolution, 4), np.uint8)
        square[..., :3] = np.asarray(crop(photo, resolution, draw, zoom=ZOOM))
        square[..., 3].flat[: 2 * WORDS] = ids.view(np.uint8)
        return square


def unpack(squares: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 4, R, R) bytes of `Captioned` as words (N, 25) and pictures (N, 3, R, R) in [-1, 1]."""
    plane = squares[:, 3].flatten(start_dim=1)[:, : 2 * WORDS].long()
    return plane[:, ::2] + 256 * plane[:, 1::2], squares[:, :3].float() / 127.5 - 1
