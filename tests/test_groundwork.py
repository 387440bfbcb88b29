"""The groundwork: every run is a command its script takes, the page is made of what is there."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from conftest import ROOT
from PIL import Image

from colorhub import cards, weights
from colorhub.generators import MLPGenerator
from colorhub.generators.noise import NoiseConfig

sys.path.insert(0, str(ROOT / "benchmarks"))
import groundwork
import groundwork_figures
from groundwork_runs import RUNS


def script_config():
    spec = importlib.util.spec_from_file_location("groundwork_noise", ROOT / "train" / "noise.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.Config


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_run_is_a_command_that_the_script_takes(run):
    script, *words = groundwork.command(run, groundwork.Config(Path("data/mnist"), "data/photos"))
    given = tyro.cli(
        script_config(), args=words, use_underscores=True, config=(tyro.conf.OmitArgPrefixes,)
    )
    assert script == "train/noise.py"
    assert given.output_dir == Path("runs/groundwork") / run.name
    assert given.objective in run.name
    assert (given.dataset_name == "data/mnist") == (run.group != "photos")


@pytest.fixture
def finished(tmp_path):
    """A groundwork of which mlp-gan alone is trained and measured."""
    folder = tmp_path / "runs" / "mlp-gan"
    torch.manual_seed(0)
    weights.save(MLPGenerator(NoiseConfig(28, 1, 4, 2)), folder)
    facts = {"epochs": 3, "steps": 300, "hours": 0.05, "resolution": 28, "seed": 0}
    facts |= {"command": "accelerate launch train/noise.py", "batch_size": 64, "photos_seen": 9}
    facts |= {"dataset": {"name": "mnist", "split": "train"}, "mixed_precision": "no"}
    (folder / "training.json").write_text(json.dumps(facts | {"hardware": "one", "versions": {}}))
    rows = [["this variant", "7.50", "1.0%, 20.0%"], ["training digits", "4.29", "8.8%, 11.2%"]]
    table = {"about": "By hand:", "heads": ["", "Frechet distance", "digits"], "rows": rows}
    sha = weights.read_config(folder)["weights_sha256"]
    results = {"tables": [table], "command": "a command", "weights_sha256": sha}
    (folder / "results.json").write_text(json.dumps(results))
    lines = ["step,epoch,critic,generator,frechet"]
    lines += [
        f"{100 * i},{i // 4 + 1},{60 - i * i},{i * i},{(i - 8) ** 2 + 7}" for i in range(1, 8)
    ]
    (folder / "training_log.csv").write_text("\n".join(lines) + "\n")
    cards.write(folder)
    return tmp_path


def test_the_page_is_filled_and_prose_is_kept(finished):
    page = finished / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(
        "# Page\n\nWritten by hand.\n\n<!-- groundwork: quality -->\n<!-- /groundwork -->\n"
    )
    config = groundwork.Config(finished, train=False, output_dir=finished / "runs", page=page)
    for _ in range(2):  # the same again
        groundwork.main(config)
        text = page.read_text()
    assert "Written by hand." in text and text.count("<!-- groundwork: tracking -->") == 1
    assert "| mlp-gan | 3 | 300 | 7.50 | 8.00 | 1.0%, 20.0% | 3 |" in text
    # Of distances that only fall, a loss that falls is +1, one that rises -1.
    assert "| mlp-gan | 7 | -1.00 | -1.00 | +1.00 | +1.00 | +1.00 | -1.00 |" in text
    assert "# mlp-gan\naccelerate launch train/noise.py" in text
    with Image.open(page.with_suffix("") / "digits.png") as sheet:
        assert sheet.width > 14 * 56
    assert (page.with_suffix("") / "mlp.png").exists()


def test_how_far_pictures_are_apart_is_known_by_hand():
    levels = np.array([0, 6, 6], np.uint8)
    drawn = [Image.new("RGB", (4, 4), (int(level),) * 3) for level in levels]
    # Pairs are 6, 6 and 0 apart: the root of (36 + 36 + 0) / 3.
    assert groundwork_figures._apart(drawn) == pytest.approx(24**0.5)


def test_what_cannot_be_shown_or_trained_is_named(finished):
    config = groundwork.Config(finished, train=False, output_dir=finished / "none")
    with pytest.raises(SystemExit, match="is finished yet"):
        groundwork.main(config)
    with pytest.raises(SystemExit, match="no such run: absent"):
        groundwork.main(groundwork.Config(finished, only=("absent",), train=False))
