"""train/video.py, run as its users run it, on clips and photos of the tests' own making."""

import csv
import json
import subprocess

import pytest
import torch
from safetensors.torch import load_file
from test_clips import write_film, write_frames
from test_train import (  # noqa: F401
    SIZES,
    assert_same_state,
    extractor,
    fresh_accelerate,
    last_state,
    log_of,
    run_here,
    start,
)

from colorhub import hub, weights
from colorhub.classifiers import ResNet34
from colorhub.errors import DataError, OptionError
from colorhub.generators import KINDS, FlowChroma, Fusion

pytest.importorskip("cv2")

NETWORK = "--width 4 --extractor resnet34 --extractor_width 2 --extractor_size 16 --lstm_width 4"
SIZES["video"] = f"{NETWORK} --clip_frames 3 --train_batch_size 2"
RESUME = "--resume_from_checkpoint latest --max_train_steps"


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Seven clips in a data set of frames."""
    folder = tmp_path_factory.mktemp("frames") / "set"
    return write_frames(folder, {f"clip{i}": 3 + i for i in range(7)})


@pytest.fixture(scope="module")
def film_folder(tmp_path_factory):
    """Three films and one that is none."""
    folder = tmp_path_factory.mktemp("films")
    for i in range(3):
        write_film(folder / f"film{i}.mp4", frames=5 + i)
    (folder / "broken.mp4").write_bytes(b"no film")
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """--extractor_from, of a classifier with random weights."""
    folder = tmp_path_factory.mktemp("told")
    torch.manual_seed(0)
    weights.save(ResNet34(ResNet34.Config(width=2)), folder)
    return f"--extractor_from {folder}"


def test_a_run_leaves_a_whole_variant(photo_folder, frames, told, tmp_path):
    words = f"{told} --video_dataset {frames} --hold_back clip5 clip2 --num_train_epochs 1"
    output = run_here("video", photo_folder, tmp_path / "out", words)
    assert weights.kind_of(output) == "video"
    generator = weights.load(output, KINDS["video"])
    assert (generator.config.frames, generator.config.lstm_width) == (16, 4)
    assert [path.name for path in (output / "samples").iterdir()] == ["epoch-001.png"]
    results = json.loads((output / "results.json").read_text())
    (table,) = results["tables"]
    assert "13 frames" in table["about"] and "clip2, clip5" in table["about"]
    assert [row[0] for row in table["rows"]][-1] == "grey (ab = 0)"
    assert table["rows"][-1][1] == "0.00"
    assert all(len(row) == len(table["heads"]) for row in table["rows"])
    card = (output / "README.md").read_text()
    assert "colorhub colorize film.mp4 --variant out" in card
    assert "this variant, each frame alone" in card and str(tmp_path) not in card
    facts = json.loads((output / "training.json").read_text())
    assert facts["dataset"]["name"].split() == [photo_folder.name, "set"]


DATA = {
    "photos": ("{photos}", ""),
    "frames": (None, "--video_dataset {frames}"),
    "films": (None, "--video_folder {films}"),
    "all": ("{photos}", "--video_dataset {frames} --video_folder {films} --clip_share 0.5"),
    "frames, streamed": (None, "--video_dataset {frames} --streaming"),
    "all, streamed": ("{photos}", "--video_dataset {frames} --video_folder {films} --streaming"),
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_a_resumed_run_ends_where_an_unbroken_one_does(
    data, photo_folder, frames, film_folder, told, tmp_path
):
    places = {"photos": photo_folder, "frames": frames, "films": film_folder}
    photos, words = (each and each.format(**places) for each in data)
    words = f"{told} {words} --lambda_temporal 1 --num_train_epochs 9"
    whole = run_here("video", photos, tmp_path / "whole", f"{words} --max_train_steps 5")
    run_here("video", photos, tmp_path / "parts", f"{words} --max_train_steps 2")
    parts = run_here("video", photos, tmp_path / "parts", f"{words} {RESUME} 5")
    assert_same_state(last_state(whole), last_state(parts))
    assert log_of(whole) == log_of(parts)
    files = [load_file(each / "model.safetensors") for each in (whole, parts)]
    assert all(torch.equal(each, files[1][name]) for name, each in files[0].items())
    assert {"mse", "temporal"} < set(log_of(whole)[0])


def test_a_published_run_comes_back_from_the_hub_as_a_variant_for_films(
    hub_server, empty_cache, frames, told, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "owner-token")
    words = f"{told} --video_dataset {frames} --hold_back clip6 --max_train_steps 2"
    words += " --push_to_hub --hub_model_id owner/films"
    output = run_here("video", None, tmp_path / "out", words)
    folder = hub.resolve("owner/films", token="owner-token").folder
    generator = weights.load(folder, KINDS["video"])
    stored = load_file(output / "model.safetensors")
    assert torch.equal(generator.lstm.weight_hh_l0.half(), stored["lstm.weight_hh_l0"])
    published = hub_server.repos["model", "owner/films"].files
    assert b"colorhub-video" in published["README.md"]
    assert "results.json" in published


def test_two_processes_learn_what_one_does_with_the_joined_batch(frames, told, tmp_path):
    words = f"{told} --video_dataset {frames} --max_train_steps 1"
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = start(
        launcher,
        "video",
        None,
        tmp_path / "two",
        f"{words} --train_batch_size 1",
        stderr=subprocess.PIPE,
    )
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    one = last_state(run_here("video", None, tmp_path / "one", words))
    two = last_state(tmp_path / "two")
    states = (each["parts"]["optimizer"]["state"] for each in (one, two))
    for ours, theirs in zip(*(state.values() for state in states), strict=True):
        torch.testing.assert_close(theirs["exp_avg"], ours["exp_avg"], rtol=1e-3, atol=1e-6)


def test_the_temporal_term_is_weighted_into_the_gradient(frames, told, tmp_path):
    moments = []
    for weight in (0, 100):
        words = f"{told} --video_dataset {frames} --max_train_steps 1 --lambda_temporal {weight}"
        output = run_here("video", None, tmp_path / str(weight), words)
        state = last_state(output)["parts"]["optimizer"]["state"]
        moments.append(torch.cat([each["exp_avg"].flatten() for each in state.values()]))
        with open(output / "training_log.csv", newline="") as file:
            assert ("temporal" in next(csv.reader(file))) is bool(weight)
    assert not torch.allclose(*moments)


@pytest.fixture(scope="module")
def fusion(tmp_path_factory):
    """A fusion model's folder."""
    folder = tmp_path_factory.mktemp("start") / "tiny-fusion"
    torch.manual_seed(1)
    config = Fusion.Config(
        resolution=16, width=4, extractor="resnet34", extractor_width=2, extractor_size=16
    )
    weights.save(Fusion(config), folder, half=False)
    return folder


def test_a_run_starts_from_a_fusion_model_and_is_measured_beside_it(
    fusion, frames, tmp_path, capfd
):
    words = f"--init_from {fusion} --video_dataset {frames} --freeze_encoder --hold_back clip6"
    output = run_here("video", None, tmp_path / "out", f"{words} --max_train_steps 2")
    given, own = Fusion.state_dict, last_state(output)["parts"]["generator"]
    source = given(weights.load(fusion))
    for name, each in source.items():
        kept = name.startswith(("encoder.", "extractor."))
        assert torch.equal(each, own[f"photo.{name}"]) is kept, name
    assert "new are those of lstm, norm, recalled" in " ".join(capfd.readouterr().err.split())
    (table,) = json.loads((output / "results.json").read_text())["tables"]
    assert "`tiny-fusion`, each frame alone" in [row[0] for row in table["rows"]]
    facts = json.loads((output / "training.json").read_text())
    assert facts["init_from"] == "tiny-fusion"

    # And from what this run has left.
    words = f"--init_from {output} --video_dataset {frames} --hold_back clip6 --max_train_steps 1"
    again = run_here("video", None, tmp_path / "again", words)
    assert "new are those of nothing" in " ".join(capfd.readouterr().err.split())
    (table,) = json.loads((again / "results.json").read_text())["tables"]
    assert "`out`" in [row[0] for row in table["rows"]]


def test_another_network_is_no_start(fusion, frames, tmp_path):
    words = f"--init_from {fusion} --video_dataset {frames} --width 6"
    with pytest.raises(OptionError, match=r"is another network, .*width=4.* give --width"):
        run_here("video", None, tmp_path / "out", words)


def test_a_broken_film_is_skipped_and_named(film_folder, told, tmp_path, caplog):
    words = f"{told} --video_folder {film_folder} --max_train_steps 1"
    output = run_here("video", None, tmp_path / "out", words)
    assert "skipped: broken.mp4 cannot be read as a film" in caplog.text
    assert isinstance(weights.load(output, KINDS["video"]), FlowChroma)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ("", OptionError, "Say what to train on: --video_dataset, --video_folder, or photos"),
        ("--dataset_name a --data_files b", OptionError, "not from both"),
        ("--dataset_name a --hold_back fox", OptionError, "--hold_back names clips of --video"),
        ("--dataset_name a --validation_split x", OptionError, "on the clips of --hold_back"),
        ("--video_dataset {frames} --clip_frames 17", OptionError, r"give 1 to 16 \(--frames\)"),
        ("--video_dataset {frames} --clip_share 1", OptionError, "a share between 0 and 1"),
        ("--video_dataset {frames} --zoom 2", OptionError, "--zoom 2"),
        (
            "--video_dataset {frames} --freeze_encoder",
            OptionError,
            "keeps the encoder of --init_from",
        ),
        ("--video_dataset {frames} --clip_frames 12", DataError, "no clip of 12 frames"),
        ("--video_dataset {frames} --hold_back fxo", OptionError, "fxo: there is no such clip"),
        ("--video_folder {frames}", DataError, "holds no films"),
        (
            "--video_dataset {frames} --streaming --hold_back fxo --max_train_steps 1",
            DataError,
            "fxo: no such clip came",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(words, error, message, frames, told, tmp_path):
    with pytest.raises(error, match=message):
        run_here("video", None, tmp_path, f"{told} {words.format(frames=frames)}")
