"""Generators from noise, and train/noise.py under its objectives, each step by step."""

import json

import pytest
import torch
from conftest import make_photo
from test_digits import write_digits
from test_pix2pix import changed, parts_of
from test_train import (  # noqa: F401
    SIZES,
    assert_same_state,
    fresh_accelerate,
    last_state,
    log_of,
    run_here,
)

from colorhub import weights
from colorhub.classifiers import ResNet34
from colorhub.errors import DataError, OptionError
from colorhub.generators import KINDS
from colorhub.generators.noise import NoiseConfig, halvings
from colorhub.objectives import OBJECTIVES
from colorhub.sampling import Sampler

RESUME = "--resume_from_checkpoint latest --max_train_steps"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(SIZES, "noise", "--width 4 --critic_width 4 --noise_dim 8")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """MNIST's four files, with forty bars to learn and twenty to measure by."""
    folder = tmp_path_factory.mktemp("mnist")
    write_digits(folder, {"train": 40, "test": 20}, packed=True)
    return folder


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    weights.save(ResNet34(ResNet34.Config(classes=10, width=2)), folder)
    return folder


@pytest.mark.parametrize("network", KINDS["noise"].values(), ids=KINDS["noise"])
@pytest.mark.parametrize(("resolution", "channels"), [(28, 1), (32, 3), (64, 3), (128, 1)])
def test_a_saved_generator_draws_the_same_again(network, resolution, channels, tmp_path):
    config = NoiseConfig(resolution, channels, noise_dim=5, width=2)
    generator = network(config).eval()
    noise = torch.randn(3, 5)
    weights.save(generator, tmp_path, half=False)
    again = weights.load(tmp_path, KINDS["noise"])
    assert again.config == config
    pictures = again(noise)
    assert pictures.shape == (3, channels, resolution, resolution)
    assert pictures.abs().max() <= 1
    torch.testing.assert_close(pictures, generator(noise), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("resolution", "expected"), [(28, (2, 7)), (32, (3, 4)), (64, (4, 4)), (128, (5, 4))]
)
def test_sides_are_halved_down_to_a_few_pixels(resolution, expected):
    assert halvings(resolution) == expected


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("architecture", ["mlp", "dcgan"])
def test_every_objective_trains_and_resumes(architecture, objective, photo_folder, tmp_path):
    words = f"--architecture {architecture} --objective {objective} --n_critic 2"
    whole = run_here("noise", photo_folder, tmp_path / "whole", f"{words} --max_train_steps 4")
    parts = run_here("noise", photo_folder, tmp_path / "parts", f"{words} --max_train_steps 2")
    before = {name: parts_of(parts, name) for name in ("generator", "critic")}
    run_here("noise", photo_folder, parts, f"{words} {RESUME} 4")
    assert_same_state(last_state(whole), last_state(parts))
    assert log_of(whole) == log_of(parts)
    for name, each in before.items():
        assert len(changed(each, parts_of(parts, name))) > len(each) / 4, name
    assert weights.load(parts, KINDS["noise"]).config.width == 4
    rate = "5e-05" if objective == "wgan" else "0.0002"
    for row in log_of(parts):
        assert row["generator_lr"] == row["critic_lr"] == rate


@pytest.mark.parametrize("stop", [3, 10, 13])  # within the first epoch, at its end, in the second
def test_digits_are_drawn_measured_and_resumed(stop, digits, classifier, tmp_path):
    words = "--resolution 28 --channels 1 --validation_split test --quality_steps 2"
    words += f" --quality_from {classifier} --quality_images 20"
    whole = run_here("noise", digits, tmp_path / "whole", f"{words} --max_train_steps 15")
    run_here("noise", digits, tmp_path / "parts", f"{words} --max_train_steps {stop}")
    parts = run_here("noise", digits, tmp_path / "parts", f"{words} {RESUME} 15")
    assert_same_state(last_state(whole), last_state(parts))
    assert log_of(whole) == log_of(parts)
    measured = [row["step"] for row in log_of(whole) if row["frechet"]]
    assert measured == ["2", "4", "6", "8", "10", "12", "14"]
    assert all(float(row["frechet"] or 1) > 0 for row in log_of(whole))

    (table,) = json.loads((parts / "results.json").read_text())["tables"]
    assert [row[0] for row in table["rows"]] == ["this variant", "training digits"]
    card = (parts / "README.md").read_text()
    assert "colorhub-noise" in card and "Frechet distance" in card
    assert "40 photos" in card and str(tmp_path) not in card and str(digits) not in card
    assert (parts / "samples" / "epoch-001.png").exists()
    (picture,) = Sampler.from_pretrained(parts, device="cpu").sample(1)
    assert picture.size == (28, 28)


def test_wgan_gives_the_critic_five_steps_for_one_and_clips_its_weights(photo_folder, tmp_path):
    words = "--objective wgan --clip 0.03"
    output = run_here("noise", photo_folder, tmp_path, f"{words} --max_train_steps 1")
    first = parts_of(output, "generator")
    run_here("noise", photo_folder, tmp_path, f"{words} {RESUME} 4")
    assert not changed(first, parts_of(output, "generator"))
    run_here("noise", photo_folder, tmp_path, f"{words} {RESUME} 5")
    assert changed(first, parts_of(output, "generator"))
    assert [bool(row["generator"]) for row in log_of(output)] == [False] * 4 + [True]
    learned = [
        each.abs().max().item()
        for name, each in parts_of(output, "critic").items()
        if "running" not in name and "num_batches" not in name
    ]
    assert max(learned) == pytest.approx(0.03)


@pytest.mark.parametrize("architecture", ["mlp", "dcgan"])
def test_pulling_away_is_weighed_in_the_generator_s_loss(architecture, photo_folder, tmp_path):
    words = f"--architecture {architecture} --objective ebgan --max_train_steps 1 --lambda_pt"
    without, pulled = (
        log_of(run_here("noise", photo_folder, tmp_path / weight, f"{words} {weight}"))[0]
        for weight in ("0", "2")
    )
    assert pulled["pull_away"] == without["pull_away"]
    expected = float(without["generator"]) + 2 * float(without["pull_away"])
    assert float(pulled["generator"]) == pytest.approx(expected, rel=1e-4)


def test_grey_pictures_are_learned_from_as_they_come(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(8):
        make_photo(20 + i, 24, seed=i).convert("L").save(tmp_path / "photos" / f"{i}.png")
    run_here("noise", tmp_path / "photos", tmp_path / "run", "--num_train_epochs 1 --channels 1")
    facts = json.loads((tmp_path / "run" / "training.json").read_text())
    assert (facts["photos_seen"], facts["last_epoch"]) == (8, [8, 0, 0])


def test_a_streamed_run_resumes_where_it_was(photo_folder, tmp_path):
    words = "--streaming --objective lsgan"
    whole = run_here("noise", photo_folder, tmp_path / "whole", f"{words} --max_train_steps 6")
    run_here("noise", photo_folder, tmp_path / "parts", f"{words} --max_train_steps 3")
    parts = run_here("noise", photo_folder, tmp_path / "parts", f"{words} {RESUME} 6")
    assert_same_state(last_state(whole), last_state(parts))


def test_a_run_starts_from_another_s_weights(photo_folder, tmp_path):
    first = run_here("noise", photo_folder, tmp_path / "first", "--max_train_steps 1")
    more = f"--max_train_steps 1 --init_from {first} --learning_rate 1e-9"
    second = run_here("noise", photo_folder, tmp_path / "second", more)
    one, other = (weights.load(each, KINDS["noise"]).state_dict() for each in (first, second))
    for name in one:
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(one[name].float(), other[name].float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--resolution 100", "--resolution 100 cannot be halved down"),
        ("--resolution 4", "--resolution 4 cannot be halved down"),
        ("--channels 2", r"--channels is 2; it must be 1 \(grey\) or 3"),
        ("--width 0", "width must be 1 or more"),
        ("--critic_width 0", "--critic_width and --n_critic must be 1 or more"),
        ("--n_critic -1", "--critic_width and --n_critic must be 1 or more"),
        ("--clip 0", "--clip is 0.0; it must be more than 0"),
        ("--architecture mlp --train_batch_size 1", "mlp has batch norm: give 2 or more"),
        ("--zoom 0.5", "--zoom is 0.5; it must be 1 or more"),
        ("--objective ebgan --margin 0", "--margin is 0.0"),
        ("--lambda_pt -1", "--lambda_pt is -1"),
        ("--validation_split test", "--quality_from and --validation_split need each other"),
        ("--quality_steps 0", "--quality_steps is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(more, message, photo_folder, tmp_path):
    with pytest.raises(OptionError, match=message):
        run_here("noise", photo_folder, tmp_path, f"{more} --max_train_steps 1")


def test_what_cannot_be_learned_from_is_named(digits, classifier, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"The train split of .*empty cannot be opened"):
        run_here("noise", empty, tmp_path / "run")
    with pytest.raises(DataError, match="splits train and test, not 'validation'"):
        more = f"--quality_from {classifier} --validation_split validation --channels 1"
        run_here("noise", digits, tmp_path / "run", f"{more} --resolution 28")
    (empty / "train-images-idx3-ubyte").touch()
    with pytest.raises(DataError, match="is no IDX file, or is truncated"):
        run_here("noise", empty, tmp_path / "run")


def test_what_tells_no_digits_cannot_measure(digits, tmp_path):
    weights.save(ResNet34(ResNet34.Config(classes=7, width=2)), tmp_path / "seven")
    with pytest.raises(OptionError, match="tells no digits"):
        more = f"--quality_from {tmp_path / 'seven'} --validation_split test --channels 1"
        run_here("noise", digits, tmp_path / "run", f"{more} --resolution 28")
