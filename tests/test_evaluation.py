import json

import datasets
import numpy as np
import pytest
import torch
from conftest import TINY, make_generator, make_photo
from PIL import Image

from colorhub import Colorizer, DataError
from colorhub.data import open_rows
from colorhub.evaluation import evaluate
from colorhub.generators import Autoencoder
from colorhub.metrics import ab_rmse, ciede2000, colorfulness, mean_interval, psnr, ssim


def flat(*rgb):
    return np.full((16, 16, 3), rgb, np.uint8)


def test_psnr_of_a_known_difference():
    # 20 log10(255 / 10) dB for a difference of 10 levels everywhere
    assert psnr(flat(100, 100, 100), flat(110, 110, 110)) == pytest.approx(28.1308, abs=1e-3)
    assert psnr(flat(1, 2, 3), flat(1, 2, 3)) == 100


def test_ciede2000_of_a_known_pair():
    # sRGB red against sRGB green, 86.61 in the literature's calculators
    assert ciede2000(flat(255, 0, 0), flat(0, 255, 0)) == pytest.approx(86.61, abs=0.02)
    assert ciede2000(flat(9, 9, 9), flat(9, 9, 9)) == 0


def test_ab_rmse_ignores_lightness():
    assert ab_rmse(flat(50, 50, 50), flat(200, 200, 200)) < 0.01
    # a and b of sRGB red are 80.09 and 67.20, of grey 0
    expected = np.sqrt((80.09**2 + 67.20**2) / 2)
    assert ab_rmse(flat(255, 0, 0), flat(99, 99, 99)) == pytest.approx(expected, abs=0.05)


def test_colorfulness_of_grey_and_of_a_flat_colour():
    assert colorfulness(flat(77, 77, 77)) == 0
    # rg = 100, yb = 50 everywhere, no spread: 0.3 * sqrt(100^2 + 50^2)
    assert colorfulness(flat(100, 0, 0)) == pytest.approx(0.3 * np.hypot(100, 50))


def test_ssim_is_one_for_equal_pictures_and_less_for_others():
    photo = np.asarray(make_photo())
    assert ssim(photo, photo) == pytest.approx(1)
    assert ssim(photo, photo[::-1]) < 0.9


def test_the_interval_holds_the_mean_and_narrows_with_more_photos():
    random = np.random.default_rng(0)
    few, many = (mean_interval(random.normal(5, 2, size)) for size in (20, 2000))
    for interval in (few, many):
        assert interval["low"] < interval["mean"] < interval["high"]
    assert many["high"] - many["low"] < (few["high"] - few["low"]) / 3
    # The normal approximation of a mean's 95 % interval, 2 * 1.96 * sigma / sqrt(n)
    assert many["high"] - many["low"] == pytest.approx(3.92 * 2 / np.sqrt(2000), rel=0.1)


def test_a_network_that_says_the_mean_scores_as_the_mean_baseline(photo_folder):
    generator = Autoencoder(TINY["Autoencoder"])
    mean = torch.tensor([4.0, 9.0])
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()
        generator.decoder[-2].bias.copy_(torch.atanh(mean / generator.config.ab_gain))
    rows = open_rows(str(photo_folder), split="test")
    colorizer = Colorizer(generator, device="cpu")
    results = evaluate(colorizer, rows, mean_ab=(4.0, 9.0))
    assert results["images"] == 4 and results["skipped"] == 0
    ours, mean_ab, grey = (results["metrics"][m] for m in ("variant", "mean_ab", "grey"))
    for metric in ours:
        assert ours[metric]["mean"] == pytest.approx(mean_ab[metric]["mean"], rel=0.02), metric
    assert grey["colorfulness"]["mean"] < 0.2 < results["truth"]["colorfulness"]["mean"]
    assert json.loads(json.dumps(results)) == results


def test_the_ratio_of_means_is_known_and_has_an_interval():
    values, over = [1.0, 2.0, 6.0], [10.0, 20.0, 60.0]
    assert mean_interval(values, over=over) == {"mean": 0.1, "low": 0.1, "high": 0.1}
    ratio = mean_interval(values, over=[1.0, 1.0, 4.0])
    # 9 over 6; at best the third photo alone, 6 over 4, to the second alone, 2 over 1
    assert ratio["mean"] == 1.5 and 1 <= ratio["low"] < 1.5 < ratio["high"] <= 2


@pytest.fixture
def sorted_photos(tmp_path):
    """Five photos with where they come from, and their kind as a class or not at all."""
    kinds = datasets.ClassLabel(names=["near", "far"])
    columns = {
        "image": datasets.Image(), "source": datasets.Value("string"), "kind": kinds,
    }  # fmt: skip
    photos = [make_photo(seed=i) for i in range(5)]
    rows = {"image": photos, "source": [*"abbaa"], "kind": [0, 1, None, 0, 0]}
    data = datasets.Dataset.from_dict(rows, features=datasets.Features(columns))
    data.to_parquet(tmp_path / "train.parquet")
    return str(tmp_path)


@pytest.mark.parametrize("streaming", [False, True])
def test_groups_share_out_the_photos_and_their_figures(sorted_photos, streaming):
    colorizer = Colorizer(make_generator(), device="cpu")

    def measure(column):
        rows = open_rows(sorted_photos, columns=(column,), streaming=streaming)
        return evaluate(colorizer, rows, mean_ab=None, group_column=column)

    results = measure("source")
    groups = results["groups"]
    assert list(groups) == ["a", "b"] and results["group_column"] == "source"
    assert [group["images"] for group in groups.values()] == [3, 2]
    assert groups["a"]["ciede2000"] != groups["b"]["ciede2000"]
    means = {name: value["mean"] for name, value in results["metrics"]["variant"].items()}
    for metric in ("ciede2000", "ab_rmse", "colorfulness"):
        joined = (3 * groups["a"][metric] + 2 * groups["b"][metric]) / 5
        assert joined == pytest.approx(means[metric], abs=1e-3), metric
    ratio = means["colorfulness"] / results["truth"]["colorfulness"]["mean"]
    assert means["colorfulness_ratio"] == pytest.approx(ratio, abs=1e-3)
    assert json.loads(json.dumps(results)) == results
    kinds = {name: group["images"] for name, group in measure("kind")["groups"].items()}
    assert kinds == {"(none)": 1, "far": 1, "near": 3}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_that_is_not_there_is_named_with_those_that_are(sorted_photos, streaming):
    with pytest.raises(DataError, match="no column 'sauce'; all: image, source, kind"):
        open_rows(sorted_photos, columns=("sauce",), streaming=streaming)
    with pytest.raises(DataError, match="taken for pictures"):
        open_rows(sorted_photos, columns=("image",), streaming=streaming)


def test_no_mean_no_baseline_and_no_more_photos_than_asked(photo_folder):
    rows = open_rows(str(photo_folder), split="test", streaming=True)
    colorizer = Colorizer(make_generator(), device="cpu")
    results = evaluate(colorizer, rows, mean_ab=None, max_images=2)
    assert set(results["metrics"]) == {"variant", "grey"}
    assert results["images"] == 2


def test_photos_without_colour_are_skipped_and_listed(tmp_path):
    make_photo().convert("L").save(tmp_path / "grey.png")
    (tmp_path / "broken.png").write_bytes(b"broken")
    rows = open_rows(str(tmp_path))
    colorizer = Colorizer(make_generator(), device="cpu")
    with pytest.raises(DataError, match="2 skipped"):
        evaluate(colorizer, rows, mean_ab=None)
    make_photo().save(tmp_path / "good.png")
    results = evaluate(colorizer, open_rows(str(tmp_path)), mean_ab=None)
    assert results["images"] == 1 and results["skipped"] == 2


def test_a_crop_is_the_central_square_seen_at_its_own_size(tmp_path):
    """Of a photo grey but for its middle only the colour is left, and the network sees the crop."""
    photo = np.full((16, 64, 3), 128, np.uint8)
    photo[:, 24:40] = (200, 60, 40)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    seen = []
    colorizer = Colorizer(Autoencoder(TINY["Autoencoder"]), device="cpu")
    colorizer.generator.register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    rows = open_rows(str(tmp_path))
    whole, crop = (evaluate(colorizer, rows, mean_ab=None, crop=side) for side in (None, 16))
    assert seen == [(1, 1, 32, 128), (1, 1, 16, 16)]
    red = colorfulness(np.full((16, 16, 3), (200, 60, 40), np.uint8))
    assert crop["truth"]["colorfulness"]["mean"] == pytest.approx(red, rel=1e-3)
    assert crop["crop"] == 16 and "crop" not in whole
