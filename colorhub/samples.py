"""Pictures that show what a variant does: triptychs of input, truth and output."""

import math
import os
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from colorhub.colorizer import Colorizer, paint
from colorhub.errors import OptionError
from colorhub.photos import open_photo

# Colour photographs that come inside scikit-image, free to show.
BUNDLED = ("astronaut", "chelsea", "coffee", "rocket")
HEIGHT = 192  # pixels


def bundled_photos() -> dict[str, Image.Image]:
    """Photographs bundled with scikit-image, by name: PIL RGB. Raises OptionError without it."""
    try:
        from skimage import data
    except ImportError:
        raise OptionError(
            "The sample photographs come with scikit-image: pip install scikit-image"
        ) from None
    return {name: Image.fromarray(getattr(data, name)()) for name in BUNDLED}


def sample_photos(paths: Sequence[str | os.PathLike[str]]) -> list[Image.Image]:
    """The colour photographs at these paths or, if there are none, the bundled ones."""
    return [open_photo(path) for path in paths] or list(bundled_photos().values())


def triptychs(colorizer: Colorizer, photos: Sequence[Image.Image]) -> Image.Image:
    """Grey input, truth and output side by side, a row a colour photo, each 192 pixels high."""
    rows = []
    for photo in photos:
        size = (max(1, round(photo.width * HEIGHT / photo.height)), HEIGHT)
        truth = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        ab = colorizer.predict(truth)
        rows.append((paint(truth, ab, strength=0), truth, paint(truth, ab)))
    width = 3 * max(truth.width for _, truth, _ in rows)
    sheet = Image.new("RGB", (width, HEIGHT * len(rows)), "white")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * picture.width, row * HEIGHT))
    return sheet


def contact_sheet(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Pictures of one size side by side with their names below, four in a row, at most 512 wide."""
    width, height = next(iter(pictures.values())).size
    scale = min(1.0, 512 / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    font = ImageFont.load_default(size=16)
    columns = min(4, len(pictures))
    cell = (size[0] + 8, size[1] + 36)
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * cell[0] + 8, rows * cell[1] + 8), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (name, picture) in enumerate(pictures.items()):
        left, top = 8 + place % columns * cell[0], 8 + place // columns * cell[1]
        sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, top))
        draw.text((left, top + size[1] + 4), name, fill="black", font=font)
    return sheet
