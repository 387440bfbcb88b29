"""Sheets of pictures for a variant's card, from photographs that are free to show.

    python benchmarks/strips.py --variant natural --output model_cards/natural/samples

Writes strips.jpg (every bundled variant side by side), alternatives.jpg (other seeds, and how
unsure the network is) and failures.jpg (the worst by CIEDE2000). The photographs are those that
come with scikit-image and, where it is installed, with scikit-learn.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from colorhub import Colorizer, list_variants
from colorhub.colorizer import paint
from colorhub.metrics import ciede2000
from colorhub.photos import save_photo
from colorhub.samples import bundled_photos

HEIGHT = 144  # pixels
UNSURE = 40.0  # Lab units of uncertainty that are shown as white
Strip: TypeAlias = list[tuple[str, Image.Image]]
"""Captions and pictures."""


@dataclass(frozen=True)
class Config:
    variant: str
    """The variant whose card it is."""
    output: Path
    """Folder for the sheets."""
    failures: int = 3
    """How many of the worst to show."""


def photographs() -> list[Image.Image]:
    """Colour photographs, `HEIGHT` pixels high."""
    photos = [*bundled_photos().values(), Image.fromarray(data.stereo_motorcycle()[0])]
    found = importlib.util.find_spec("sklearn")
    for place in (found and found.submodule_search_locations) or ():
        pictures = sorted(Path(place, "datasets", "images").glob("*.jpg"))
        photos += [Image.open(path) for path in pictures]
    sizes = [(round(photo.width * HEIGHT / photo.height), HEIGHT) for photo in photos]
    lanczos = Image.Resampling.LANCZOS
    return [
        photo.convert("RGB").resize(size, lanczos)
        for photo, size in zip(photos, sizes, strict=True)
    ]


def sheet(strips: Sequence[Strip]) -> Image.Image:
    """Strips below each other, captions below the pictures."""
    width = max(sum(picture.width + 6 for _, picture in strip) for strip in strips)
    result = Image.new("RGB", (width, (HEIGHT + 24) * len(strips)), "white")
    draw, font = ImageDraw.Draw(result), ImageFont.load_default(size=13)
    for row, strip in enumerate(strips):
        left, top = 0, row * (HEIGHT + 24)
        for caption, picture in strip:
            result.paste(picture, (left, top))
            draw.text((left + 2, top + HEIGHT + 2), caption, fill="black", font=font)
            left += picture.width + 6
    return result


def main(config: Config) -> None:
    own = Colorizer.from_pretrained(config.variant)
    others = {name: Colorizer.from_pretrained(name) for name in list_variants()}
    others.pop(config.variant, None)
    strips: list[tuple[float, Strip]] = []
    seeds: list[Strip] = []
    for photo in photographs():
        strip = [("grey", paint(photo, own.predict(photo), strength=0))]
        strip += [(name, each.colorize(photo)) for name, each in others.items()]
        result = own.colorize(photo)
        worse = ciede2000(np.asarray(photo), np.asarray(result))
        strip += [(f"{config.variant}, CIEDE2000 {worse:.1f}", result), ("truth", photo)]
        strips.append((worse, strip))
        seeds.append([(f"seed {seed}", own.colorize(photo, seed=seed)) for seed in range(8)])
        if own.knows_uncertainty:
            unsure = own.uncertainty(photo)
            levels = (unsure[0, 0] * (255 / UNSURE)).clamp(0, 255).to(torch.uint8).numpy()
            shown = Image.fromarray(levels).resize(photo.size)
            seeds[-1].append((f"unsure, on average {unsure.mean():.0f}", shown))
    worst = sorted(strips, key=lambda each: -each[0])[: config.failures]
    save_photo(sheet([strip for _, strip in strips]), config.output / "strips.jpg")
    save_photo(
        sheet([strip[:1] + strip[-2:] for _, strip in worst]), config.output / "failures.jpg"
    )
    save_photo(sheet(seeds), config.output / "alternatives.jpg")


if __name__ == "__main__":
    main(tyro.cli(Config, use_underscores=True))
