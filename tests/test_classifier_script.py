"""train/classifier.py: digits, and what a fusion model's extractor is taught."""

import csv
import importlib.util
import math
import shlex
import sys

import pytest
import torch
import tyro
from accelerate.state import AcceleratorState, GradientState, PartialState
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file, save_file
from test_classifiers import published
from test_digits import write_digits
from test_train import run_here

from colorhub import hub, weights
from colorhub.classifiers import ResNet34
from colorhub.errors import DataError, OptionError

TEACHER = "mobilenet_edgetpu_075"


@pytest.fixture(scope="module")
def script():
    path = ROOT / "train" / "classifier.py"
    spec = importlib.util.spec_from_file_location("train_classifier", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(script):
    """Run the script's own main in this process, on words of a command line."""

    def run(words):
        config = tyro.cli(
            script.Digits | script.Distill,
            args=shlex.split(words),
            use_underscores=True,
            config=(tyro.conf.OmitArgPrefixes,),
        )
        try:
            script.train(config)
        finally:
            for state in (AcceleratorState, GradientState, PartialState):
                state._reset_state()
        return config.output_dir

    return run


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    write_digits(folder, {"train": 40, "test": 26}, packed=True)
    return folder


def metrics_of(output):
    with open(output / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def load(output):
    return weights.load(output, {"ResNet34": ResNet34})


DIGITS = "--width 2 --train_batch_size 16"


def test_digits_leave_weights_rows_and_figures(run, mnist, tmp_path):
    words = f"digits --data_folder {mnist} --output_dir {tmp_path} {DIGITS} --num_train_epochs 2"
    output = run(words)
    assert load(output).config == ResNet34.Config(classes=10, width=2)
    rows = metrics_of(output)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        assert all(math.isfinite(float(value)) for value in row.values())
        for split, count in (("train", 40), ("test", 26)):
            right = float(row[f"{split} accuracy"]) * count
            assert right == pytest.approx(round(right), abs=1e-3)
    for name in ("curves", "confusion", "predictions"):
        with Image.open(output / f"{name}.png") as picture:
            assert len(picture.convert("L").getcolors()) > 10


def test_digits_are_learned(run, mnist, tmp_path):
    words = f"digits --data_folder {mnist} --output_dir {tmp_path} --width 4"
    output = run(f"{words} --train_batch_size 8 --learning_rate 0.05 --num_train_epochs 8")
    rows = metrics_of(output)
    assert float(rows[-1]["train loss"]) < 0.8 * float(rows[0]["train loss"])
    assert float(rows[-1]["train accuracy"]) > 0.3


def test_a_second_start_with_more_epochs_ends_where_an_unbroken_one_does(run, mnist, tmp_path):
    words = f"digits --data_folder {mnist} {DIGITS} --output_dir"
    whole = run(f"{words} {tmp_path / 'whole'} --num_train_epochs 3")
    parts = run(f"{words} {tmp_path / 'parts'} --num_train_epochs 2")
    first = metrics_of(parts)
    run(f"{words} {tmp_path / 'parts'} --num_train_epochs 3")
    assert metrics_of(parts)[:2] == first
    assert metrics_of(parts) == metrics_of(whole)
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_digits_without_shortcuts_are_another_network_s(run, mnist, tmp_path):
    words = f"digits --data_folder {mnist} --output_dir {tmp_path} {DIGITS} --num_train_epochs 1"
    output = run(f"{words} --no-shortcuts")
    assert not load(output).config.shortcuts
    with pytest.raises(OptionError, match="does not fit these options"):
        run(f"{words} --num_train_epochs 2")


@pytest.fixture(scope="module")
def distill(photo_folder, tmp_path_factory):
    """The words of a small run, but for its folder and epochs."""
    torch.manual_seed(0)
    teacher = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(published(TEACHER), teacher)
    return (
        f"distill --dataset_name {photo_folder} --teacher {teacher} --teacher_network {TEACHER} "
        "--resolution 32 --grey_size 16 --width 2 --train_batch_size 4 --learning_rate 0.05 "
        "--dataloader_num_workers 0 --validation_split test"
    )


def test_what_is_distilled_serves_as_a_fusion_s_extractor(run, distill, photo_folder, tmp_path):
    output = run(f"{distill} --num_train_epochs 8 --output_dir {tmp_path / 'taught'}")
    rows = metrics_of(output)
    assert [row["epoch"] for row in rows] == list("12345678")
    assert float(rows[-1]["train loss"]) < float(rows[0]["train loss"]) / 2
    assert float(rows[-1]["validation loss"]) < float(rows[0]["validation loss"])
    with Image.open(output / "curves.png") as picture:
        assert len(picture.convert("L").getcolors()) > 10
    taught = load(output)
    assert taught.config == ResNet34.Config(width=2)

    words = f"--max_train_steps 1 --extractor_from {output} --extractor_width"
    fusion = weights.load(run_here("fusion", photo_folder, tmp_path / "fusion", f"{words} 2"))
    for name, each in taught.state_dict().items():
        assert torch.equal(fusion.extractor.state_dict()[name], each), name
    with pytest.raises(OptionError, match="give --extractor_width, and"):
        run_here("fusion", photo_folder, tmp_path / "other", f"{words} 3")


def test_a_distillation_that_was_cut_off_goes_on(run, distill, script, tmp_path, monkeypatch):
    whole = run(f"{distill} --num_train_epochs 2 --output_dir {tmp_path / 'whole'}")
    words = f"{distill} --num_train_epochs 2 --output_dir {tmp_path / 'parts'}"

    end_epoch = script._end_epoch

    def cut_off(config, state, row):
        end_epoch(config, state, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(script, "_end_epoch", cut_off)
        run(words)
    parts = run(words)
    assert metrics_of(parts) == metrics_of(whole)
    assert weights.sha256(parts / "model.safetensors") == weights.sha256(
        whole / "model.safetensors"
    )


def test_a_distillation_cannot_go_on_for_more_epochs(run, distill, tmp_path):
    run(f"{distill} --num_train_epochs 1 --output_dir {tmp_path}")
    with pytest.raises(OptionError, match="made with epochs = 1, not 2"):
        run(f"{distill} --num_train_epochs 2 --output_dir {tmp_path}")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--resolution 40", "--resolution is 40; it must be a multiple of 32"),
        ("--grey_size 0", "--grey_size is 0"),
        ("--classes 10", "--classes must be 1000"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(more, message, run, tmp_path):
    words = f"distill --dataset_name x --teacher y --output_dir {tmp_path}"
    with pytest.raises(OptionError, match=message):
        run(f"{words} {more}")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--classes 5", "--classes must be 10,"),
        ("--train_batch_size 0", "--train_batch_size and --num_train_epochs"),
        ("--num_train_epochs 0", "--train_batch_size and --num_train_epochs"),
        ("--learning_rate -1", "--learning_rate is -1"),
    ],
)
def test_digits_refuse_what_makes_no_sense(more, message, run, tmp_path):
    with pytest.raises(OptionError, match=message):
        run(f"digits --data_folder x --output_dir {tmp_path} {more}")


@pytest.mark.parametrize("split", ["train", "test"])
def test_photos_that_fill_no_batch_are_refused_before_any_training(split, run, distill, tmp_path):
    words = f"{distill} --train_split {split} --train_batch_size 500 --output_dir {tmp_path}"
    with pytest.raises(DataError, match=f"photos of {split} fill no batch of 500"):
        run(words)
    assert not [*tmp_path.rglob("*.safetensors")]


def test_an_extractor_that_is_named_takes_the_place_of_that_of_a_variant(photo_folder, tmp_path):
    for name in ("first", "second"):
        weights.save(ResNet34(ResNet34.Config(width=2)), tmp_path / name)
    first, second = (
        run_here("fusion", photo_folder, tmp_path / f"told-{name}", words)
        for name, words in (
            ("first", f"--max_train_steps 1 --extractor_from {tmp_path / 'first'}"),
            (
                "second",
                f"--max_train_steps 1 --init_from {tmp_path / 'told-first'} "
                f"--extractor_from {tmp_path / 'second'}",
            ),
        )
    )
    for told, taught in ((first, "first"), (second, "second")):
        wanted = load(tmp_path / taught).state_dict()
        assert torch.equal(weights.load(told).extractor.fc.weight, wanted["fc.weight"])


def test_a_classifier_is_no_variant_to_choose(run, mnist, tmp_path, monkeypatch):
    run(f"digits --data_folder {mnist} {DIGITS} --num_train_epochs 1 --output_dir {tmp_path / 'n'}")
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(tmp_path))
    assert "n" not in hub.local_variants()
