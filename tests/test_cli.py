import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import make_generator, make_photo
from PIL import Image

from colorhub import cards, list_variants, weights
from colorhub.cli import COMMANDS, main


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    (folder / "old").mkdir(parents=True)
    make_photo(33, 21).save(folder / "a.png")
    make_photo(40, 30).convert("L").save(folder / "b.jpg")
    make_photo(40, 30).convert("CMYK").save(folder / "c.jpg")
    (folder / "broken.jpg").write_text("no photo")
    (folder / "notes.txt").write_text("no photo either")
    make_photo(20, 20).save(folder / "old" / "d.tif")
    return folder


@pytest.fixture(autouse=True)
def use_tiny_variant(variant_folder, monkeypatch):
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(variant_folder.parent))


def colorhub(*words):
    """The exit status, however the command ends."""
    try:
        return main([str(word) for word in words])
    except SystemExit as end:
        return end.code


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_one_photo_becomes_one_file(album, tmp_path, capsys):
    target = tmp_path / "out.jpg"
    assert colorhub("colorize", album / "a.png", "--output", target, "--variant", "tiny") == 0
    assert read(target).shape == (21, 33, 3)
    assert np.ptp(read(target), axis=2).max() > 5
    assert capsys.readouterr().out.strip() == str(target)


def test_a_folder_with_a_broken_file_is_done_but_for_that_file(album, tmp_path, capsys):
    out = tmp_path / "out"
    assert colorhub("colorize", album, "--output", out, "--variant", "tiny") == 1
    results = {"a.png", "b.jpg", "c.jpg"}
    assert {path.name for path in out.iterdir()} == results | {"colorhub-report.jsonl"}
    stderr = capsys.readouterr().err
    assert "broken.jpg" in stderr and "1 of 4 photos failed" in stderr
    assert "1 files passed over" in stderr
    assert "Traceback" not in stderr


def test_folders_of_folders_keep_their_shape(album, tmp_path):
    (album / "broken.jpg").unlink()
    out = tmp_path / "out"
    status = colorhub("colorize", album, "--output", out, "--variant", "tiny", "--recursive")
    assert status == 0
    assert (out / "old" / "d.tif").exists()


def test_a_result_is_replaced_only_when_asked(album, tmp_path, capsys):
    target = tmp_path / "out.png"
    target.write_bytes(b"as it was")
    words = ("colorize", album / "a.png", "--output", target, "--variant", "tiny")
    assert colorhub(*words) == 1
    assert target.read_bytes() == b"as it was"
    assert "--overwrite" in capsys.readouterr().err
    assert colorhub(*words, "--overwrite") == 0


def test_strength_and_seed_reach_the_network(album, tmp_path):
    for name, more in {"grey": ("--strength", 0), "one": (), "two": ("--seed", 2)}.items():
        target = tmp_path / f"{name}.png"
        words = ("colorize", album / "a.png", "--output", target, "--variant", "tiny")
        assert colorhub(*words, *more) == 0
    grey, one, two = (read(tmp_path / f"{n}.png") for n in ("grey", "one", "two"))
    assert np.ptp(grey, axis=2).max() <= 1
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("command", ["colorize", "compare"])
def test_an_ab_gain_reaches_the_network(command, album, tmp_path, capsys):
    words = (command, album / "a.png", "--variant", "tiny", "--output")
    for name, more in {"gain": ("--ab_gain", 200), "twice": ("--strength", 2), "own": ()}.items():
        assert colorhub(*words, tmp_path / f"{name}.png", *more) == 0
    gain, twice, own = (read(tmp_path / f"{name}.png") for name in ("gain", "twice", "own"))
    assert np.array_equal(gain, twice)  # tiny's own is 100
    assert not np.array_equal(gain, own)
    assert colorhub(*words, tmp_path / "none.png", "--ab_gain", 0) != 0
    assert "ab_gain is 0.0; it must be above 0" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("colorize", "a.png"),  # no output
        ("colorize", "--output", "x.png"),  # no input
        ("colorize", "a.png", "--output", "x"),  # no format
        ("colorize", "a.png", "b.png", "--output", __file__),  # several into a file
        ("colorize", "a.png", "--output", "x.png", "--strength", "much"),
        ("colorize", "a.png", "--output", "x.png", "--variant", "tiny", "--device", "tpu"),
        ("compare", "a.png"),  # no output
        ("paint",),
        (),
    ],
)
def test_wrong_usage_ends_in_status_2(words):
    assert colorhub(*words) == 2


def test_two_photos_of_one_name_become_two_files(album, capsys):
    (album / "old" / "a.png").write_bytes((album / "b.jpg").read_bytes())
    words = ("colorize", album / "a.png", album / "old" / "a.png", "--output", album / "new")
    assert colorhub(*words, "--variant", "tiny") == 0
    first, second = (read(album / "new" / name) for name in ("a.png", "a-2.png"))
    assert not np.array_equal(first, second)


def test_an_unknown_variant_is_named(album, tmp_path, capsys):
    words = ("colorize", album / "a.png", "--output", tmp_path / "x.png", "--variant", "cwgam")
    assert colorhub(*words) == 1
    assert "cwgam" in capsys.readouterr().err


def test_compare_makes_one_sheet(album, tmp_path, variant_folder):
    sheet = tmp_path / "sheet.png"
    words = ("compare", album / "a.png", "--variant", "tiny", "--variant", str(variant_folder))
    assert colorhub(*words, "--output", sheet) == 0
    height, width, _ = read(sheet).shape
    assert width > 3 * 33 and height > 21


def test_compare_takes_all_variants_on_this_machine_if_none_is_named(album, tmp_path):
    sheet = tmp_path / "sheet.png"
    assert colorhub("compare", album / "a.png", "--output", sheet) == 0
    rows = math.ceil((1 + len(list_variants())) / 4)
    assert read(sheet).shape[0] == 8 + rows * (21 + 36)


def test_variants_are_listed_for_people_and_programs(capsys):
    assert colorhub("variants") == 0
    assert "tiny" in capsys.readouterr().out
    assert colorhub("variants", "--json") == 0
    assert {"name": "tiny", "kind": "photo", "source": "local"} in json.loads(
        capsys.readouterr().out
    )


def test_evaluate_writes_figures_that_enter_the_card(photo_folder, variant_folder, capsys):
    results = variant_folder / "results.json"
    words = ("evaluate", "--variant", "tiny", "--dataset_name", photo_folder, "--output", results)
    assert colorhub(*words) == 0
    assert "mean ab of training data" in capsys.readouterr().out
    assert set(json.loads(results.read_text())["metrics"]) == {"variant", "grey", "mean_ab"}
    card = (variant_folder / "README.md").read_text()
    assert "Means with 95 % bootstrap intervals" in card
    assert str(photo_folder) not in card


@pytest.fixture
def sure_variant(tmp_path):
    """A variant that knows its uncertainty."""
    folder = tmp_path / "sure"
    weights.save(make_generator("MobileUNet"), folder, mean_ab=(1.0, 2.0))
    cards.write(folder)
    return folder


def test_evaluate_measures_groups_and_robustness_when_asked(
    tmp_path, sure_variant, capsys, monkeypatch
):
    monkeypatch.setattr("colorhub.robustness.SIDE", 32)
    for name in ("sea", "wood"):
        (tmp_path / "album" / name).mkdir(parents=True)
        make_photo(seed=len(name)).save(tmp_path / "album" / name / "photo.png")
    more = ("--split", "train", "--group_column", "label", "--robustness")
    words = ("evaluate", "--variant", "sure", "--dataset_name", tmp_path / "album", *more)
    assert colorhub(*words, "--output", tmp_path / "elsewhere.json") == 0
    assert not (sure_variant / "samples").exists()
    assert colorhub(*words, "--output", sure_variant / "results.json") == 0
    shown = capsys.readouterr().out
    assert "| sea | 1 |" in shown and "| mirrored |" in shown and "| orthochromatic |" in shown
    results = json.loads((sure_variant / "results.json").read_text())
    assert set(results["groups"]) == {"sea", "wood"}
    assert len(results["robustness"]["calibration"]["groups"]) == 10
    assert results["command"].endswith("--group_column label --robustness")
    card = (sure_variant / "README.md").read_text()
    assert "### Robustness" in card and "### By label" in card
    assert "(samples/calibration.png)" in card
    assert read(sure_variant / "samples" / "calibration.png").ndim == 3
    assert colorhub(*words, "--group_column", "absent") == 1
    assert "no column 'absent'" in capsys.readouterr().err


def test_publish_puts_a_folder_on_the_hub(variant_folder, hub_server, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "owner-token")
    words = ("publish", variant_folder, "--repo_id", "owner/tiny", "--revision", "epoch-40")
    assert colorhub(*words) == 0
    assert capsys.readouterr().out.strip() == f"{hub_server.url}/owner/tiny"
    assert "epoch-40" in hub_server.repos["model", "owner/tiny"].tags
    assert colorhub("publish", variant_folder / "absent", "--repo_id", "owner/x") == 2


@pytest.mark.parametrize("command", [command.__name__.lower() for command in COMMANDS])
def test_help_has_an_example(command, capsys):
    assert colorhub(command, "--help") == 0
    assert f"example: colorhub {command}" in capsys.readouterr().out


def test_help_does_not_wait_for_torch():
    program = (
        "import sys; from colorhub.cli import main\n"
        "try: main(['colorize', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'gradio', 'datasets')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=os.environ)
    assert done.returncode == 0


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "colorhub", "variants"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "tiny" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "colorhub", "variants"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 0 and done.stderr == b""
