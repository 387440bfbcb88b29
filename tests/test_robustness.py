import json

import numpy as np
import pytest
import torch
from conftest import make_generator, make_photo
from PIL import Image
from torch import nn

from colorhub import Colorizer, DataError, OptionError, degradations
from colorhub.color import lab_to_rgb
from colorhub.colorizer import paint
from colorhub.data import open_rows
from colorhub.generators import MobileUNet, ResUNet
from colorhub.robustness import calibration, calibration_chart, hues, robustness

SIDE = 32  # pixels: the photos here are small


@pytest.fixture(autouse=True)
def small_photos(monkeypatch):
    monkeypatch.setattr("colorhub.robustness.SIDE", SIDE)


class Fake(nn.Module):
    """A network without weights, made of a function: lightness and noise to ab."""

    def __init__(self, colours, *, noise_dim=0):
        super().__init__()
        self.colours = colours
        self.config = ResUNet.Config(resolution=SIDE, noise_dim=noise_dim, ab_gain=100.0)

    def forward(self, lightness, noise=None):
        return self.colours(lightness, noise)


class Sure(MobileUNet):
    """A network that paints grey, or a little a, and says how wrong grey is of each lightness."""

    def __init__(self, uncertainty):
        nn.Module.__init__(self)
        self.says = uncertainty
        self.config = MobileUNet.Config(resolution=SIDE, ab_gain=100.0)

    def forward(self, lightness, choice=0):
        a = torch.full_like(lightness, choice / 100)  # a Lab unit for each choice
        return torch.cat((a, 0 * a), dim=1)

    def uncertainty(self, lightness):
        return self.says(lightness)


def constant(lightness, noise=None):
    return torch.full_like(lightness, 0.1).repeat(1, 2, 1, 1)


def by_lightness(lightness, noise=None):
    return lightness.repeat(1, 2, 1, 1) * 0.4


def measure(generator, rows, **options):
    return robustness(Colorizer(generator, device="cpu"), rows, **options)


@pytest.fixture(scope="module")
def rows(photo_folder):
    return open_rows(str(photo_folder), split="test")


def test_a_network_that_paints_a_constant_is_perfectly_stable(rows):
    results = measure(Fake(constant), rows)
    assert results["images"] == 4
    for change, distance in results["stability"].items():
        assert distance == pytest.approx(0, abs=1e-5), change
    assert "alternatives" not in results and "calibration" not in results
    assert json.loads(json.dumps(results)) == results


def test_each_change_moves_the_network_that_depends_on_it(rows):
    """And no other: what a network depends on is what moves it, by as much as it says."""

    def size(lightness, noise):
        return torch.full_like(lightness, lightness.shape[2] / 1000).repeat(1, 2, 1, 1)

    def place(lightness, noise):  # 1 Lab unit a column
        columns = torch.arange(lightness.shape[3]) / 100
        return columns.expand_as(lightness).repeat(1, 2, 1, 1) * torch.tensor([1, 0]).view(2, 1, 1)

    sized = measure(Fake(size), rows)["stability"]
    assert sized["size"] > 0.1 * 100 * SIDE / 1000
    assert max(sized["flip"], sized["shift"], sized["noise"]) < 1e-4
    placed = measure(Fake(place), rows)["stability"]
    assert placed["shift"] == pytest.approx(8, abs=1e-3)  # pixels
    assert placed["flip"] > 10 and placed["noise"] < 1e-4
    noisy = measure(Fake(by_lightness), rows)["stability"]
    assert max(noisy["flip"], noisy["shift"]) < 1e-4
    # Its ab are 0.4 * 100 / 50 times L; 2 levels of 255 are about 0.8 L, of which the mean
    # absolute value is 0.8 times as large: 0.9 in Euclidean distance, more in the dark.
    assert 0.6 < noisy["noise"] < 1.6


def test_degradations_reach_the_network_and_colours_are_judged_on_the_clean_photo(rows):
    clean = measure(Fake(constant), rows)["degradations"]
    assert set(clean) == {"none", "aged", *degradations.NAMES}
    # Colours that do not depend on what is seen are as good whatever is seen: were they painted
    # on the degraded photo, its lightness would count as error.
    assert all(figures == clean["none"] for figures in clean.values())
    seen = measure(Fake(by_lightness), rows)["degradations"]
    for name in degradations.NAMES:
        assert seen[name] != seen["none"], name


def test_what_is_drawn_follows_from_seed_and_number(rows):
    generator = Fake(by_lightness)
    first, again, other = (measure(generator, rows, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["degradations"]["aged"] != other["degradations"]["aged"]
    assert first["stability"]["noise"] != other["stability"]["noise"]
    assert first["degradations"]["none"] == other["degradations"]["none"]


def test_alternatives_are_as_far_apart_and_as_good_as_their_noise_makes_them(rows):
    def shifted(lightness, noise):
        shift = noise.view(-1, 1, 1, 1).expand_as(lightness)
        return torch.cat((shift, torch.zeros_like(shift)), dim=1) * 0.1

    chosen = measure(Fake(shifted, noise_dim=1), rows)["alternatives"]
    draws = [torch.randn(1, generator=torch.Generator().manual_seed(s)).item() for s in range(8)]
    apart = [abs(a - b) for i, a in enumerate(draws) for b in draws[:i]]
    assert chosen["diversity"] == pytest.approx(0.1 * 100 * np.mean(apart), rel=1e-3)
    assert chosen["best_of_8"] < min(chosen["first"], chosen["mean_of_8"])

    alike = measure(Fake(constant, noise_dim=1), rows)["alternatives"]
    assert alike["diversity"] == 0
    assert alike["best_of_8"] == alike["first"] == alike["mean_of_8"]


def test_the_eight_seeds_are_the_likeliest_colours_and_seven_alternatives(known_errors):
    chosen = measure(Sure(lambda lightness: lightness + 1), known_errors)["alternatives"]
    apart = [i - j for i in range(8) for j in range(i)]
    assert chosen["diversity"] == pytest.approx(np.mean(apart), rel=1e-3)
    assert chosen["best_of_8"] < chosen["mean_of_8"] < chosen["first"]  # true a are 10 and more


@pytest.fixture(scope="module")
def known_errors(tmp_path_factory):
    """Photos whose a is half their L and whose b is 0: grey is wrong by L / 2."""
    folder = tmp_path_factory.mktemp("known")
    for i in range(3):
        lightness = torch.linspace(20 + 10 * i, 50 + 10 * i, 40).expand(1, 1, SIDE, 40)
        lab = torch.cat((lightness, lightness / 2, 0 * lightness), dim=1)
        levels = (lab_to_rgb(lab)[0].permute(1, 2, 0).clamp(0, 1) * 255).round()
        Image.fromarray(levels.to(torch.uint8).numpy()).save(folder / f"{i}.png")
    return open_rows(str(folder))


def test_a_network_that_knows_its_errors_is_perfectly_calibrated(known_errors):
    def truly(lightness):  # L / 2 of 100 Lab units
        return (lightness + 1) * 25 / 100

    true = measure(Sure(truly), known_errors)["calibration"]
    predicted, actual = np.transpose(true["groups"])
    assert len(predicted) == 10 and 10 < predicted[0] < predicted[9] < 35
    assert actual == pytest.approx(predicted, abs=0.3)  # 8-bit photos
    assert true["pixels"] > 0.99 and true["photos"] == 1

    timid = measure(Sure(lambda lightness: 2 * truly(lightness)), known_errors)["calibration"]
    predicted, actual = np.transpose(timid["groups"])
    assert actual == pytest.approx(predicted / 2, abs=0.3)

    wrong = measure(Sure(lambda lightness: 0.5 - truly(lightness)), known_errors)["calibration"]
    assert wrong["pixels"] < -0.99 and wrong["photos"] == -1

    blind = measure(Sure(lambda lightness: 0 * lightness + 0.2), known_errors)["calibration"]
    assert blind["pixels"] is None and blind["photos"] is None


def test_gaussian_errors_of_the_predicted_spread_lie_on_the_diagonal():
    random = np.random.default_rng(0)
    spread = random.uniform(2, 30, 100_000)  # of both channels together
    error = np.linalg.norm(random.normal(0, spread / np.sqrt(2), (2, 100_000)), axis=0)
    for predicted, actual in calibration(spread, error)["groups"]:
        assert actual == pytest.approx(predicted, rel=0.03)


def test_the_chart_has_the_groups_and_the_diagonal():
    exact = calibration_chart({"groups": [[i, i] for i in range(1, 11)]})
    other = calibration_chart({"groups": [[i, 5] for i in range(1, 11)]})
    assert exact.mode == "RGB" and min(exact.size) >= 400
    dark = [np.asarray(chart.convert("L")) < 80 for chart in (exact, other)]
    assert (dark[0] != dark[1]).sum() > 500


def test_photos_without_colour_are_passed_over(tmp_path):
    make_photo().convert("L").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="2 skipped"):
        measure(Fake(constant), open_rows(str(tmp_path)))
    make_photo().save(tmp_path / "c.png")
    assert measure(Fake(constant), open_rows(str(tmp_path)))["images"] == 1


def test_no_more_photos_than_asked_of_a_stream(photo_folder):
    rows = open_rows(str(photo_folder), split="test", streaming=True)
    assert measure(make_generator(), rows, max_images=2)["images"] == 2


def test_colours_are_predicted_at_another_resolution_when_asked():
    colorizer = Colorizer(make_generator(), device="cpu")
    photo = make_photo(60, 40)
    assert colorizer.predict(photo).shape[2:] == (32, 48)
    assert colorizer.predict(photo, resolution=64).shape[2:] == (64, 96)
    assert torch.equal(colorizer.predict(photo, resolution=32), colorizer.predict(photo))
    with pytest.raises(OptionError, match="resolution is 0"):
        colorizer.predict(photo, resolution=0)


@pytest.mark.parametrize("width", [170, 200, 341, 500])
def test_a_flat_colour_stays_flat_on_photos_smaller_than_the_network_s_size(width):
    grey = Image.new("L", (width, 24), 128)
    flat = torch.tensor([20.0, -15.0]).view(1, 2, 1, 1).expand(1, 2, 256, 341)
    assert np.ptp(np.asarray(paint(grey, flat)), axis=(0, 1)).max() <= 1


def at(chroma, *degrees):
    angles = np.radians(degrees)
    return chroma * np.stack((np.cos(angles), np.sin(angles)))


@pytest.mark.parametrize(
    ("degrees", "name"),
    [
        *((350, "pinks and reds"), (44, "pinks and reds"), (46, "skin and wood"), (80, "yellows")),
        *((110, "leaf greens"), (170, "teals"), (-110, "sky blues"), (344, "violets")),
    ],
)
def test_a_pixel_counts_to_its_true_hue(degrees, name):
    figures = hues(at(20, degrees, degrees), at(10, degrees, degrees + 180))
    assert figures == {name: {"share": 1, "chroma": 20, "painted": 0, "error": 20}}


def test_what_is_nearly_grey_has_no_hue():
    figures = hues(np.array([[5.0, 20.0], [0.0, 0.0]]), np.array([[5.0, 20.0], [1.0, 0.0]]))
    assert list(figures) == ["greys", "pinks and reds"]
    assert figures["greys"] == {"share": 0.5, "chroma": 5, "painted": 5, "error": 1}


def test_hues_are_measured_on_photos(known_errors):
    figures = measure(Fake(constant), known_errors)["hues"]
    assert sum(each["share"] for each in figures.values()) == pytest.approx(1, abs=1e-3)
    assert all(each["error"] > 0 for each in figures.values())
