"""Which colours pictures show and sentences ask for, and the clusters of photos."""

import random

import datasets
import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image
from test_words import make_network

from colorhub.captions import Captioned, captions_of, middle, unpack
from colorhub.clusters import one_cluster
from colorhub.colornames import COLORS, asked_color, recolored, shown_colors
from colorhub.conditioning import Hits, figures, tables
from colorhub.data import open_rows
from colorhub.errors import DataError, PhotoError
from colorhub.layers import ConvLSTMCell
from colorhub.vocabulary import Vocabulary

PURE = {
    "white": (235, 235, 230),
    "pink": (230, 130, 170),
    "red": (200, 30, 30),
    "orange": (230, 130, 30),
    "yellow": (230, 200, 40),
    "blue": (60, 80, 200),
    "purple": (120, 50, 150),
}


def flat(color):
    return (torch.tensor(color, dtype=torch.float) / 127.5 - 1).view(1, 3, 1, 1).expand(1, 3, 8, 8)


def test_plain_colours_are_named_and_greens_and_the_dark_are_not():
    pictures = torch.cat([flat(PURE[color]) for color in COLORS])
    assert shown_colors(pictures).tolist() == list(range(len(COLORS)))
    others = torch.cat([flat((40, 120, 40)), flat((20, 20, 20)), flat((90, 90, 90))])
    assert shown_colors(others).tolist() == [-1, -1, -1]


def test_the_middle_counts_and_most_of_it():
    picture = flat((230, 200, 40)).clone()
    picture[:, :, 2:6, 2:6] = flat((40, 120, 40))[:, :, :4, :4]  # a green middle
    picture[:, :, 3, 3] = flat((200, 30, 30))[:, :, 0, 0]  # with one red pixel
    assert shown_colors(picture).tolist() == [COLORS.index("red")]


def test_the_colour_that_is_asked_for():
    assert asked_color("A photo of a RED rose.") == "red"
    assert asked_color("a rose") is None and asked_color("red and white petals") is None
    assert recolored("A red Rose, red!", "blue") == "a blue rose blue"


def test_hits_of_a_painter_that_follows_and_of_one_that_does_not():
    sentences = [f"a {color} rose" for color in COLORS]
    right = torch.cat([flat(PURE[color]) for color in COLORS])
    assert Hits.of(right, sentences) == Hits(7, 1.0, pytest.approx(1 / 7))
    always_red = flat(PURE["red"]).expand(7, 3, 8, 8)
    hits = Hits.of(always_red, sentences)
    assert hits.own == hits.shuffled == pytest.approx(1 / 7)


def test_figures_of_held_back_sentences_and_other_colours():
    sentences = ["a red rose", "a blue rose", "a rose flower"]
    truth = torch.cat([flat(PURE["red"]), flat(PURE["blue"]), flat((0, 0, 0))])
    truth = truth[:, :, :1, :1].expand(3, 3, 16, 16)
    found = figures(make_network(), sentences, truth, {"a red rose", "a blue rose"})
    assert (found.hits.sentences, found.unseen.sentences) == (2, 5)  # the same five of both
    assert found.real.own == 1 and found.real_apart > 50 and found.apart > 0
    colors, distances = tables({"one": found, "two": found})
    assert len(colors["rows"]) == 2 and "Chance is 14%" in colors["about"]
    assert len(colors["heads"]) == len(colors["rows"][0])
    assert len(distances["heads"]) == len(distances["rows"][0])


def test_a_caption_travels_in_a_photo_s_fourth_channel():
    vocabulary = Vocabulary([f"w{n}" for n in range(300)])
    view = Captioned(vocabulary, "text")
    row = {"image": {"path": "x.png"}, "text": ["w299 w0 nobody w3", None]}
    square = view.of_row(row, make_photo(40, 30), 16, random.Random(0))
    words, pictures = unpack(torch.from_numpy(square).permute(2, 0, 1)[None])
    assert words.tolist() == [[0] * 22 + [300, 1, 4]]
    assert pictures.shape == (1, 3, 16, 16) and pictures.abs().max() <= 1
    dropping = Captioned(vocabulary, "text", drop=0.99)
    kept = dropping.of_row(row, make_photo(40, 30), 16, random.Random(0))
    assert unpack(torch.from_numpy(kept).permute(2, 0, 1)[None])[0].any()  # never all
    with pytest.raises(PhotoError, match=r"x\.png has no caption of known words"):
        view.of_row({**row, "text": "nobody"}, make_photo(40, 30), 16, random.Random(0))
    with pytest.raises(DataError, match="must hold a text or a list of texts"):
        captions_of(3)
    assert captions_of(None) == [] and captions_of("a") == ["a"]


def test_the_middle_of_a_photo():
    photo = Image.new("RGB", (30, 10), "red")
    photo.paste("blue", (10, 0, 20, 10))
    red, green, blue = np.asarray(middle(photo, 8)).reshape(-1, 3).mean(0)
    assert red < 5 and green == 0 and blue > 250


def test_a_step_of_the_convolutional_lstm_by_hand():
    cell = ConvLSTMCell(1, 1, side=2, kernel=1)
    with torch.no_grad():
        cell.gates.weight.copy_(torch.tensor([[1, 2], [0, 0], [3, 0], [0, 1]])[:, :, None, None])
        cell.gates.bias.copy_(torch.tensor([0, 1, 0, 0.5]))
        cell.peepholes[:] = torch.tensor([0.1, 0.2, 0.3])[:, None, None, None]
    x, h, c = (torch.full((1, 1, 2, 2), value) for value in (0.4, 0.5, 0.6))
    h_new, c_new = cell(x, (h, c))
    s = torch.sigmoid
    wanted = s(1 + 0.2 * c) * c + s(x + 2 * h + 0.1 * c) * torch.tanh(3 * x)
    torch.testing.assert_close(c_new, wanted)
    torch.testing.assert_close(h_new, s(h + 0.5 + 0.3 * wanted) * torch.tanh(wanted))


def test_photos_that_differ_are_in_different_clusters(tmp_path):
    colors = ["red"] * 6 + ["blue"] * 3 + ["green"] * 4
    drawn = np.random.default_rng(0)
    photos = []
    for color in colors:
        photo = np.asarray(Image.new("RGB", (20, 16), color)).astype(int)
        noisy = (photo + drawn.integers(-20, 20, photo.shape)).clip(0, 255)
        photos.append(Image.fromarray(noisy.astype(np.uint8)))
    made = datasets.Dataset.from_dict({"image": photos, "color": colors})
    made.cast_column("image", datasets.Image()).to_parquet(tmp_path / "a.parquet")
    rows = open_rows(None, data_files=(str(tmp_path / "a.parquet"),), columns=("color",))
    for keep, color in enumerate(("red", "green", "blue")):
        kept, sizes = one_cluster(rows, clusters=3, keep=keep, seed=0)
        assert sizes == [6, 4, 3] and set(kept["color"]) == {color}
