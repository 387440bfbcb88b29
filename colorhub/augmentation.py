"""Photos as squares, sheared, zoomed, turned and mirrored: how the fusion models see their data."""

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

from colorhub.errors import OptionError


@dataclass(frozen=True)
class Square:
    """A view for `batches.PhotoBatches`: the whole photo as a square, changed at random.

    `padding` puts white bars at its sides instead of stretching it. What a change uncovers is
    white too then, else the edge repeated, as in Keras' ImageDataGenerator.
    """

    padding: bool = False
    shear: float = 10.0  # degrees, to either side
    zoom: float = 0.2  # share by which the photo is made smaller or larger
    rotation: float = 15.0  # degrees, to either side
    flip: bool = True  # half of the time

    def __post_init__(self) -> None:
        if not (0 <= self.shear < 90 and 0 <= self.zoom <= 0.9 and self.rotation >= 0):
            raise OptionError(
                f"--shear is {self.shear}, --zoom {self.zoom}, --rotation {self.rotation}: give "
                "degrees from 0, below 90 of shear, and a share of up to 0.9 of zoom."
            )

    def __call__(self, photo: Image.Image, resolution: int, draw: random.Random) -> Image.Image:
        """PIL RGB of any size to PIL RGB of `resolution` pixels a side."""
        square = self._square(photo, resolution)
        angle = math.radians(draw.uniform(-self.rotation, self.rotation))
        shear = math.radians(draw.uniform(-self.shear, self.shear))
        scale = draw.uniform(1 - self.zoom, 1 + self.zoom)
        mirror = -1 if self.flip and draw.random() < 0.5 else 1
        if angle or shear or scale != 1:
            # No place of the result comes from further off the middle than the resolution, zoomed.
            margin = 0 if self.padding else max(0, math.ceil(resolution * (1 / scale - 0.5))) + 2
            if margin:
                edges = ((margin, margin), (margin, margin), (0, 0))
                square = Image.fromarray(np.pad(np.asarray(square), edges, mode="edge"))
            # From the result's places, counted from its middle, to the source's.
            a, b = mirror * math.cos(angle) / scale, -math.sin(angle + shear) / scale
            d, e = mirror * math.sin(angle) / scale, math.cos(angle + shear) / scale
            middle, target = resolution / 2 + margin, resolution / 2
            matrix = (a, b, middle - (a + b) * target, d, e, middle - (d + e) * target)
            return square.transform(
                (resolution, resolution),
                Image.Transform.AFFINE,
                matrix,
                Image.Resampling.BICUBIC,
                fillcolor=(255, 255, 255),
            )
        return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror < 0 else square

    def _square(self, photo: Image.Image, resolution: int) -> Image.Image:
        size, bicubic = (resolution, resolution), Image.Resampling.BICUBIC
        if not self.padding:
            return photo.resize(size, bicubic)
        scale = resolution / max(photo.size)
        width, height = (max(1, round(side * scale)) for side in photo.size)
        square = Image.new("RGB", size, "white")
        place = (resolution - width) // 2, (resolution - height) // 2
        square.paste(photo.resize((width, height), bicubic), place)
        return square
