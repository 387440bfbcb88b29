"""What runs that learn to draw make of pictures."""

import random

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image
from test_digits import write_digits

from colorhub.drawing import Drawing, Frame
from colorhub.errors import DataError
from colorhub.options import Options


def ramp(width=40, height=24):
    """Grey that rises from left to right."""
    levels = np.linspace(0, 255, width).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(levels, (height, width)).copy()).convert("RGB")


def test_a_frame_neither_enlarges_nor_mirrors_unless_told():
    digit = make_photo(28, 28)
    framed = Frame()(digit, 28, random.Random(0))
    assert np.array_equal(np.asarray(framed), np.asarray(digit))
    falling = [np.asarray(Frame()(ramp(), 24, random.Random(i)), int)[0, :, 0] for i in range(9)]
    assert all(row[-1] > row[0] for row in falling)
    mirrored = [np.asarray(Frame(flips=True)(ramp(), 24, random.Random(i)), int) for i in range(9)]
    assert {bool(row[0, -1, 0] > row[0, 0, 0]) for row in mirrored} == {True, False}


def test_pictures_reach_from_minus_one_to_one(tmp_path):
    levels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    options = Options(dataset_name="any")
    for channels in (1, 3):
        (pictures,) = Drawing(options, channels, 8).batch(levels)
        assert pictures.shape == (2, channels, 8, 8)
        assert (pictures.amin(), pictures.amax()) == (-1, pytest.approx(1))


def test_grey_of_a_colour_is_its_luma_as_pillow_has_it():
    photo = make_photo(16, 16)
    levels = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)[None]
    (grey,) = Drawing(Options(dataset_name="any"), 1, 16).batch(levels)
    expected = torch.from_numpy(np.asarray(photo.convert("L")).copy())
    assert ((grey[0, 0] + 1) * 127.5 - expected).abs().max() <= 1


def test_real_pictures_are_the_first_of_a_split(tmp_path):
    arrays = write_digits(tmp_path / "mnist", {"train": 12, "test": 6})
    task = Drawing(Options(dataset_name=str(tmp_path / "mnist")), 1, 28)
    real = task.real("test", 4)
    assert real.shape == (4, 1, 28, 28)
    levels = (real[:, 0] + 1) * 127.5
    np.testing.assert_allclose(levels.numpy(), arrays["test"][0][:4], atol=0.01)


def test_a_split_without_pictures_cannot_measure(tmp_path):
    write_digits(tmp_path / "mnist", {"train": 12, "test": 0})
    task = Drawing(Options(dataset_name=str(tmp_path / "mnist")), 1, 28)
    with pytest.raises(DataError, match="The test split holds no picture"):
        task.real("test", 4)
