"""A photo with all that its file holds: pixels at their own depth, transparency, metadata.

`colorhub.decoding` makes it of a file; `colorhub.results` puts colours into a file again, with
what belongs to it. The levels between them are always sRGB's.
"""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from colorhub.metadata import Metadata


@dataclass(frozen=True)
class Original:
    """A photo as its file holds it, upright.

    `levels` are sRGB, (1 or 3, H, W) of uint8 or uint16; `alpha` is (H, W), of as many bits, as it
    stood in the file. `bits` are those that the file had a channel, 8 or 16; the levels have more
    where a colour profile was honoured.
    """

    levels: np.ndarray
    bits: int = 8
    alpha: np.ndarray | None = None
    metadata: Metadata = field(default_factory=Metadata)
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.levels.shape[2], self.levels.shape[1]

    def picture(self, size: tuple[int, int] | None = None) -> Image.Image:
        """PIL "L" or "RGB", 8 bits, transparency laid on white, brought to (width, height)."""
        bands = [_resized(plane, size) for plane in self.levels]
        picture = bands[0] if len(bands) == 1 else Image.merge("RGB", bands)
        if self.alpha is not None:
            white = Image.new(picture.mode, picture.size, "white")
            picture = Image.composite(picture, white, _resized(self.alpha, size))
        return picture


def planes_of(picture: Image.Image) -> np.ndarray:
    """PIL "L" or "RGB" to levels (1 or 3, H, W), uint8."""
    return np.stack([np.asarray(band) for band in picture.split()])


def picture_of(levels: np.ndarray) -> Image.Image:
    """Levels (1 or 3, H, W) to PIL "L" or "RGB" of 8 bits."""
    return Original(levels).picture()


def _resized(plane: np.ndarray, size: tuple[int, int] | None) -> Image.Image:
    if plane.dtype == np.uint16:
        plane = ((plane.astype(np.uint32) + 128) // 257).astype(np.uint8)
    plane = np.ascontiguousarray(plane)
    band = Image.frombuffer("L", plane.shape[::-1], plane, "raw", "L", 0, 1)
    if size is None:
        return band
    return band.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)
