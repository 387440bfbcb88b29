"""train/text2image.py as its users run it, on pictures and captions of the tests' own making."""

import json
import subprocess

import datasets
import pytest
import safetensors.torch
import test_train
import torch
from conftest import make_photo
from test_encoders import folded
from test_train import (
    assert_same_state,
    fresh_accelerate,  # noqa: F401  (every run in this process is one of its own)
    last_state,
    log_of,
    run_here,
)

from colorhub import DataError, OptionError, VariantError, weights
from colorhub.generators import KINDS
from colorhub.words import Painter

SIZE = "--resolution 16 --width 4 --maps 3 --noise_dim 2 --critic_width 4 --judged_words 2"
COLORS = ("red", "blue", "yellow")
NAMES = ("rose", "bee balm", "colt's foot")


def caption(i):
    return f"A photo of a {COLORS[i % 3]} {NAMES[i // 3 % 3]} flower."


def write(folder, **columns):
    """A Parquet data set of a training and a test split, a row group for every four rows."""
    for split, count in (("train", 16), ("test", 4)):
        photos = [make_photo(20 + i, 24, seed=i) for i in range(count)]
        made = {name: [value(i) for i in range(count)] for name, value in columns.items()}
        rows = datasets.Dataset.from_dict({"image": photos, **made})
        rows = rows.cast_column("image", datasets.Image())
        (folder / split).mkdir(parents=True)
        rows.to_parquet(folder / split / "0.parquet", batch_size=4)
    return folder


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    return write(tmp_path_factory.mktemp("captioned") / "flowers", caption=caption)


@pytest.fixture(autouse=True)
def size(monkeypatch):
    monkeypatch.setitem(test_train.SIZES, "text2image", SIZE)


def run(folder, output, more=""):
    return run_here("text2image", folder, output, more)


def test_a_run_leaves_a_whole_variant_that_paints(captioned, tmp_path):
    output = run(captioned, tmp_path / "flowers", "--num_train_epochs 1 --validation_split test")
    painter = Painter.from_pretrained(output, device="cpu")
    assert {"red", "bee", "balm", "colt's"} <= set(painter.vocabulary.words)
    assert painter.paint("a red rose")[-1].size == (16, 16)
    (row, *_), rows = log_of(output), log_of(output)
    assert len(rows) == 4
    assert all(float(row[name]) for name in ("critic", "adversarial", "generator", "distance"))
    results = json.loads((output / "results.json").read_text())
    colors, distances = results["tables"]
    assert "4 held-back captions" in colors["about"] and len(distances["rows"][0]) == 4
    card = (output / "README.md").read_text()
    assert 'painter.paint("' in card and "unseen with this colour" in card
    assert str(tmp_path) not in card and "pipeline_tag: text-to-image" in card
    assert [path.name for path in (output / "samples").iterdir()] == ["epoch-001.png"]


@pytest.mark.parametrize(
    ("more", "stop"),  # within the first epoch of four steps, within the second
    [
        ("", 3),
        ("--streaming --distance mean", 5),
        ("--streaming --dataloader_num_workers 2", 3),
        ("--drop_words 0.3 --ema_decay 0.9 --lambda_adv 0 --word2vec skip_gram", 5),
    ],
)
def test_a_resumed_run_ends_where_an_unbroken_one_does(more, stop, captioned, tmp_path):
    whole = run(captioned, tmp_path / "whole", f"{more} --max_train_steps 6")
    run(captioned, tmp_path / "parts", f"{more} --max_train_steps {stop}")
    resumed = f"{more} --max_train_steps 6 --resume_from_checkpoint latest"
    parts = run(captioned, tmp_path / "parts", resumed)
    assert_same_state(last_state(whole), last_state(parts))
    assert log_of(whole) == log_of(parts)


def test_two_processes_learn_what_one_does_with_the_joined_batch(captioned, tmp_path):
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    more = "--max_train_steps 2 --drop_words 0.3"
    process = test_train.start(
        launcher, "text2image", captioned, tmp_path / "two", f"{more} --train_batch_size 2",
        stderr=subprocess.PIPE,
    )  # fmt: skip
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    run(captioned, tmp_path / "one", more)
    for one, two in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        for name, value in one.items():
            assert float(two[name]) == pytest.approx(float(value), rel=1e-3), name


def test_a_column_may_have_another_name_and_hold_several_captions(tmp_path):
    def several(i):
        return [caption(i), None, f"{COLORS[i % 3]} petals"] if i else ["tulip"]

    folder = write(tmp_path / "data", label=lambda i: "x", sentences=several)
    output = run(folder, tmp_path / "run", "--caption_column sentences --max_train_steps 2")
    assert {"petals", "tulip", "red"} <= set(words_of(output))
    assert "x" not in words_of(output)


def test_photos_without_a_caption_are_skipped_and_listed(tmp_path):
    folder = write(tmp_path / "data", caption=lambda i: None if i == 3 else caption(i))
    output = run(folder, tmp_path / "run", "--num_train_epochs 1 --max_bad_fraction 0.2")
    assert "row 3" in (output / "skipped.txt").read_text()
    assert "no caption of known words" in (output / "skipped.txt").read_text()
    with pytest.raises(DataError, match=r"--max_bad_fraction 0\.05"):
        run(folder, tmp_path / "strict", "--num_train_epochs 1")


def test_word2vec_learns_from_a_corpus_if_one_is_given(captioned, tmp_path):
    (tmp_path / "corpus.txt").write_text("Red roses.\n\nA blue balm; a red bee flower\n" * 5)
    more = f"--corpus {tmp_path / 'corpus.txt'} --max_train_steps 1"
    output = run(captioned, tmp_path / "run", more)
    assert set(words_of(output)) == {"red", "roses", "a", "blue", "balm", "bee", "flower"}
    few = run(captioned, tmp_path / "few", f"{more} --max_words 3")
    assert set(words_of(few)) == {"red", "a"}  # the others are as many again


def test_a_run_starts_from_another_s_words_and_weights(captioned, tmp_path):
    first = run(captioned, tmp_path / "first", "--max_train_steps 1 --max_words 4")
    more = f"--init_from {first} --max_train_steps 1 --learning_rate 1e-9"
    second = run(captioned, tmp_path / "second", more)
    assert words_of(second) == words_of(first)
    one, two = (weights.load(folder, KINDS["text"]) for folder in (first, second))
    assert torch.equal(one.vectors, two.vectors)
    torch.testing.assert_close(one.memory.gates.weight, two.memory.gates.weight)


def test_the_vectors_are_not_trained(captioned, tmp_path):
    one = run(captioned, tmp_path / "one", "--max_train_steps 1")
    two = run(captioned, tmp_path / "two", "--max_train_steps 4 --learning_rate 0.1")
    first, second = (weights.load(folder, KINDS["text"]).vectors for folder in (one, two))
    assert torch.equal(first, second) and not first[0].any() and first[1:].any(dim=1).all()


def test_one_cluster_of_the_photos_is_kept(captioned, tmp_path, capsys):
    torch.manual_seed(0)
    backbone = tmp_path / "net.safetensors"
    safetensors.torch.save_file(folded("mobilenet_v2_100"), backbone)
    more = "--cluster 2 --train_batch_size 1 --num_train_epochs 1 --lambda_adv 0"
    for name, keep, features in (
        ("large", 0, ""),
        ("small", 1, ""),
        ("deep", 0, f"--cluster_features {backbone}"),
    ):
        output = run(captioned, tmp_path / name, f"{more} --keep {keep} {features}")
        said = capsys.readouterr().err.split("clusters: ")[1].split(";")[0]
        sizes = [int(size) for size in said.split(", ")]
        assert sum(sizes) == 16 and sizes == sorted(sizes, reverse=True)
        assert len(log_of(output)) == sizes[keep]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--caption_column text", "There is no column 'text'; all: image, caption"),
        ("--cluster 3 --keep 3", "--keep is 3; of --cluster 3 choose one from 0"),
        ("--cluster 40 --keep 3", "--cluster is 40, but there are 16 photos"),
        ("--keep 1", "--keep and --cluster_features need --cluster"),
        ("--cluster 2 --streaming", "leave out --streaming"),
        ("--corpus nowhere.txt", "--corpus nowhere.txt is no text"),
        ("--judged_words 25", "--judged_words is 25; give 1 to 24"),
        ("--drop_words 1", "--drop_words is 1.0"),
        ("--max_words 70000", "--max_words is 70000"),
        ("--resolution 20", "--resolution is 20; give a multiple of 8"),
        ("--critic_rate 0", "--critic_rate is 0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(more, message, captioned, tmp_path):
    with pytest.raises((OptionError, DataError), match=message):
        run(captioned, tmp_path / "run", f"{more} --max_train_steps 1")


def test_another_kind_is_no_start(captioned, tmp_path, variant_folder):
    with pytest.raises(VariantError, match="kind photo"):
        run(captioned, tmp_path / "run", f"--init_from {variant_folder} --max_train_steps 1")


def words_of(output):
    return weights.read_config(output)["network"]["vocabulary"].split()
