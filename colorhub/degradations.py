"""What time, film and copying do to photographs, for training and measuring on new ones.

An old photograph is no desaturated new one. Each degradation takes a colour photo or its grey
version as float arrays in [0, 1] and gives grey (H, W); `age` applies several with random
strengths. Sizes but those of grain and JPEG's blocks are shares of the short side, so that most
degradations look alike at any resolution.
"""

import io
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from colorhub.data import crop

Grey = NDArray[Any]
"""(H, W) in [0, 1], as sRGB levels are."""
Colour = NDArray[Any]
"""sRGB (H, W, 3) in [0, 1]."""

_LUMINANCE = (0.2127, 0.7152, 0.0722)


def film(rgb: Colour, shares: tuple[float, float, float] = _LUMINANCE) -> Grey:
    """Grey of a film that sees red, green and blue light in these shares of 1."""
    light = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** np.float32(2.4), rgb / 12.92)
    seen = light @ np.asarray(shares, np.float32)
    curve = 1.055 * seen ** np.float32(1 / 2.4) - 0.055
    return np.where(seen > 0.0031308, curve, 12.92 * seen)


def orthochromatic(rgb: Colour, draw: random.Random) -> Grey:
    """Film before about 1930 is blind to red: lips and bricks go dark, skies white."""
    blue = draw.uniform(0.35, 0.75)
    red = draw.uniform(0.0, 0.06)
    return film(rgb, (red, 1 - blue - red, blue))


def panchromatic(rgb: Colour, draw: random.Random) -> Grey:
    """Later film sees all colours, in other shares than the eye, and through coloured filters."""
    shares = [draw.gammavariate(4 * mean, 1) for mean in (0.33, 0.42, 0.25)]
    red, green, blue = (share / sum(shares) for share in shares)
    return film(rgb, (red, green, blue))


def fading(grey: Grey, draw: random.Random) -> Grey:
    """Blacks turn grey and whites dull, and the midtones move."""
    black, white = draw.uniform(0.0, 0.3), draw.uniform(0.7, 1.0)
    curve = grey ** np.float32(math.exp(draw.uniform(-0.35, 0.35)))
    return np.float32(black) + np.float32(white - black) * curve


def sepia(grey: Grey, draw: random.Random) -> Grey:
    """A toned print, photographed in colour and turned to grey again."""
    tint = np.array((1.0, draw.uniform(0.8, 0.95), draw.uniform(0.55, 0.8)), np.float32)
    toned = grey[..., None] ** (1 + (1 - tint) * draw.uniform(0.5, 1.5)) * (0.4 + 0.6 * tint)
    return film(toned.astype(np.float32))


def grain(grey: Grey, draw: random.Random) -> Grey:
    """Clumps of silver: noise, strongest in the midtones, of one to two pixels' size."""
    noise = _noise(draw, grey.shape)
    if draw.random() < 0.5:
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / np.float32(1.73)
    strength = draw.uniform(0.01, 0.07)
    return grey + np.float32(strength) * noise * (0.4 + 2.4 * grey * (1 - grey))


def blur(grey: Grey, draw: random.Random) -> Grey:
    """A soft lens, or a hand that moved."""
    radius = draw.uniform(0.003, 0.009) * min(grey.shape)
    return _from_image(_to_image(grey).filter(ImageFilter.GaussianBlur(radius)))


def low_resolution(grey: Grey, draw: random.Random) -> Grey:
    """A small scan, enlarged."""
    factor = draw.uniform(0.35, 0.7)
    size = grey.shape[1], grey.shape[0]
    small = (max(8, round(size[0] * factor)), max(8, round(size[1] * factor)))
    kind = draw.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC))
    image = _to_image(grey).resize(small, Image.Resampling.BOX)
    return _from_image(image.resize(size, kind))


def scratches(grey: Grey, draw: random.Random) -> Grey:
    """Thin lines, mostly upright, and specks of dust, white or black."""
    height, width = grey.shape
    result = grey.copy()
    rows = np.arange(height)
    for _ in range(draw.randint(1, 6)):
        slope, bend = draw.gauss(0, 0.15), draw.gauss(0, 0.02) * width
        top, bottom = sorted((draw.randrange(height), draw.randrange(height)))
        path = draw.uniform(0, width) + slope * rows + bend * np.sin(rows / height * 6.3)
        columns = np.clip(path.astype(int), 0, width - 1)[top:bottom]
        strength = draw.uniform(0.3, 1) * draw.choice((-1, 1, 1))
        for offset in range(draw.randint(1, max(1, width // 100))):
            across = np.minimum(columns + offset, width - 1)
            result[rows[top:bottom], across] += np.float32(strength)
    for _ in range(draw.randint(0, 12)):
        radius = draw.randint(1, max(1, height // 64))
        y, x = draw.randrange(height), draw.randrange(width)
        speck = slice(max(0, y - radius), y + radius), slice(max(0, x - radius), x + radius)
        result[speck] += np.float32(draw.choice((-0.5, 0.6)))
    return result


def vignette(grey: Grey, draw: random.Random) -> Grey:
    """Corners that got less light, or faded more."""
    height, width = grey.shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - np.float32(draw.gauss(0, 0.15))
    x = np.linspace(-1, 1, width, dtype=np.float32)[None] - np.float32(draw.gauss(0, 0.15))
    share = np.clip((x * x + y * y) / 2, 0, 1) ** np.float32(draw.uniform(0.7, 1.6))
    if draw.random() < 0.25:
        return grey + (1 - grey) * share * np.float32(draw.uniform(0.1, 0.5))
    return grey * (1 - share * np.float32(draw.uniform(0.2, 0.7)))


def jpeg(grey: Grey, draw: random.Random) -> Grey:
    """Blocks and rings of a JPEG saved small."""
    buffer = io.BytesIO()
    _to_image(grey).save(buffer, "JPEG", quality=draw.randint(15, 70))
    return _from_image(Image.open(buffer))


FILMS: dict[str, Callable[[Colour, random.Random], Grey]] = {
    "orthochromatic": orthochromatic,
    "panchromatic": panchromatic,
}
AGEING: dict[str, Callable[[Grey, random.Random], Grey]] = {
    "fading": fading,
    "sepia": sepia,
    "low_resolution": low_resolution,
    "blur": blur,
    "vignette": vignette,
    "grain": grain,
    "scratches": scratches,
    "jpeg": jpeg,
}
"""In the order in which they happen to a photograph."""
NAMES = (*FILMS, *AGEING)


def degrade(photo: Image.Image, name: str, draw: random.Random) -> Image.Image:
    """One degradation of `NAMES`, by itself: PIL RGB to PIL L of the same size."""
    rgb = _colour(photo)
    grey = FILMS[name](rgb, draw) if name in FILMS else AGEING[name](film(rgb), draw)
    return _to_image(grey)


def age(photo: Image.Image, draw: random.Random) -> Image.Image:
    """A photograph as an archive might hold it: PIL RGB to PIL L of the same size.

    A film, and each kind of ageing with probability 0.3.
    """
    rgb = _colour(photo)
    seen = draw.choice((None, *FILMS.values()))
    grey = seen(rgb, draw) if seen else film(rgb)
    for ageing in AGEING.values():
        if draw.random() < 0.3:
            grey = np.clip(ageing(grey, draw), 0, 1)
    return _to_image(grey)


@dataclass(frozen=True)
class AgedCrop:
    """A training crop with what the network is to see of it, as (R, R, 4): RGB and grey.

    `share` of the photos are aged, the grey of the others is their true lightness. The short side
    is brought to 1 to `zoom` times the resolution before the crop is taken.
    """

    share: float
    zoom: float
    channels = 4

    def __call__(
        self, photo: Image.Image, resolution: int, draw: random.Random
    ) -> NDArray[np.uint8]:
        square = crop(photo, resolution, draw, zoom=self.zoom)
        rgb = np.asarray(square)
        if draw.random() < self.share:
            grey = np.asarray(age(square, draw))
        else:
            grey = np.asarray(_to_image(film(_colour(square))))
        return np.concatenate((rgb, grey[..., None]), axis=2)


def _colour(photo: Image.Image) -> Colour:
    return np.asarray(photo.convert("RGB"), np.float32) / 255


def _noise(draw: random.Random, shape: tuple[int, ...]) -> Grey:
    return np.random.default_rng(draw.getrandbits(64)).standard_normal(shape, np.float32)


def _to_image(grey: Grey) -> Image.Image:
    return Image.fromarray((np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8))


def _from_image(image: Image.Image) -> Grey:
    return np.asarray(image, np.float32) / 255
