"""Photos as changed squares, by draws whose outcome the tests set."""

import math
import random

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image, ImageOps

from colorhub.augmentation import Square
from colorhub.errors import OptionError

SIDE = 64
PLAIN = {"shear": 0.0, "zoom": 0.0, "rotation": 0.0, "flip": False}


class Draw:
    """A random.Random that has drawn already."""

    def __init__(self, *, angle=0.0, shear=0.0, scale=1.0, mirror=False):
        self.values = [angle, shear, scale]
        self.mirror = mirror

    def uniform(self, low, high):
        value = self.values.pop(0)
        assert low <= value <= high
        return value

    def random(self):
        return 0.0 if self.mirror else 0.9


def view(photo, *, padding=False, side=SIDE, **drawn):
    """The square under one change."""
    square = Square(padding, shear=60.0, zoom=0.5, rotation=180.0)
    return square(photo, side, Draw(**drawn))


def marked(right, down):
    """A white square with a dot, its place counted from the middle in pixels."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    dot = np.exp(-((x - right) ** 2 + (y - down) ** 2) / 8)
    grey = np.rint(255 * (1 - dot)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def place(picture):
    """About where the dot is, (right, down) from the middle."""
    dark = 255.0 - np.asarray(picture.convert("L"))
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    return pytest.approx(((x * dark).sum() / dark.sum(), (y * dark).sum() / dark.sum()), abs=0.15)


def test_without_changes_the_whole_photo_is_stretched():
    photo = make_photo(60, 40)
    result = Square(False, **PLAIN)(photo, SIDE, random.Random(0))
    assert result.tobytes() == photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC).tobytes()


@pytest.mark.parametrize(("width", "height"), [(60, 30), (30, 60), (33, 33), (200, 1)])
def test_padding_puts_equal_white_bars_at_the_sides(width, height):
    photo = make_photo(width, height)
    result = Square(True, **PLAIN)(photo, SIDE, random.Random(0))
    inner = tuple(max(1, round(SIDE * side / max(width, height))) for side in photo.size)
    left, top = (SIDE - inner[0]) // 2, (SIDE - inner[1]) // 2
    box = (left, top, left + inner[0], top + inner[1])
    resized = photo.resize(inner, Image.Resampling.BICUBIC)
    assert result.size == (SIDE, SIDE)
    assert result.crop(box).tobytes() == resized.tobytes()
    bars = np.asarray(result).copy()
    bars[top : top + inner[1], left : left + inner[0]] = 255
    assert (bars == 255).all()
    assert abs(SIDE - inner[0] - 2 * left) <= 1 and abs(SIDE - inner[1] - 2 * top) <= 1


def test_half_of_the_photos_are_mirrored():
    photo, flips = make_photo(), Square(False, **PLAIN | {"flip": True})
    plain = Square(False, **PLAIN)(photo, SIDE, random.Random(0))
    mirrored = ImageOps.mirror(plain).tobytes()
    draw, found = random.Random(0), []
    for _ in range(200):
        result = flips(photo, SIDE, draw).tobytes()
        assert result in (plain.tobytes(), mirrored)
        found.append(result == mirrored)
    assert 80 <= sum(found) <= 120


def test_a_draw_gives_the_same_picture_again_and_another_gives_another():
    photo, square = make_photo(), Square(True)
    first, again, other = (square(photo, SIDE, random.Random(s)).tobytes() for s in (5, 5, 6))
    assert first == again != other


def test_a_rotation_turns_by_its_angle():
    for angle in (-90.0, -30.0, 15.0, 120.0):
        turned = view(marked(20, 0), angle=angle)
        radians = math.radians(angle)
        assert place(turned) == (20 * math.cos(radians), -20 * math.sin(radians))


@pytest.mark.parametrize("scale", [0.6, 1.4])
def test_a_zoom_makes_larger_by_its_scale(scale):
    assert place(view(marked(15, -10), scale=scale)) == (15 * scale, -10 * scale)


def test_a_shear_leans_what_stands_and_leaves_what_lies():
    """Keras': at an angle s a point (x, y) goes to (x + y tan s, y / cos s)."""
    s = math.radians(20)
    assert place(view(marked(18, 0), shear=20.0)) == (18, 0)
    assert place(view(marked(0, 18), shear=20.0)) == (18 * math.tan(s), 18 / math.cos(s))


def test_a_mirror_is_that_of_the_changed_photo():
    photo = make_photo(SIDE, SIDE)
    changes = {"angle": 25.0, "shear": -12.0, "scale": 0.8}
    mirrored = np.asarray(view(photo, **changes, mirror=True), int)
    expected = np.asarray(ImageOps.mirror(view(photo, **changes)), int)
    assert np.abs(mirrored - expected).max() <= 1
    assert np.abs(mirrored - np.asarray(view(photo, **changes), int)).max() > 20


HARD = {"angle": 40.0, "shear": 30.0, "scale": 0.6}


def colours(picture):
    return {colour for _, colour in picture.getcolors()}


def test_what_a_change_uncovers_is_white_where_bars_are():
    red = Image.new("RGB", (40, 40), (200, 10, 10))
    assert colours(view(red, padding=True, **HARD)) == {(200, 10, 10), (255, 255, 255)}


def test_what_a_change_uncovers_repeats_the_edge_where_there_are_no_bars():
    red = Image.new("RGB", (40, 40), (200, 10, 10))
    assert colours(view(red, **HARD)) == {(200, 10, 10)}
    framed = ImageOps.expand(Image.new("RGB", (SIDE - 8, SIDE - 8), "blue"), 4, "red")
    smaller = np.asarray(view(framed, scale=0.5))
    assert (smaller[:12] == (255, 0, 0)).all() and (smaller[:, :12] == (255, 0, 0)).all()
    assert (smaller[24:40, 24:40] == (0, 0, 255)).all()


@pytest.mark.parametrize(("zoom", "rotation"), [(0.9, 0.0), (0.8, 15.0), (0.6, 45.0)])
def test_no_draw_shows_anything_but_the_photo_and_its_edge(zoom, rotation):
    red = Image.new("RGB", (40, 40), (200, 10, 10))
    square = Square(zoom=zoom, rotation=rotation)
    for seed in range(100):
        assert colours(square(red, SIDE, random.Random(seed))) == {(200, 10, 10)}


def test_draws_stay_within_what_is_asked():
    asked = []

    class Listening(random.Random):
        def uniform(self, low, high):
            asked.append((low, high))
            return super().uniform(low, high)

    Square(False, shear=7.0, zoom=0.3, rotation=11.0)(make_photo(), 8, Listening(0))
    assert asked == [(-11.0, 11.0), (-7.0, 7.0), (0.7, 1.3)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"shear": 90.0},
        {"shear": -1.0},
        {"zoom": 1.0},
        {"zoom": -0.1},
        {"rotation": -1.0},
        {"rotation": float("nan")},
    ],
)
def test_changes_that_make_no_sense_are_refused_by_name(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(OptionError, match=f"--{name} (is )?{value}"):
        Square(**wrong)
