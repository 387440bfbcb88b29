"""The study: every recipe is a command its script takes, and the page is made of what is there."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import tyro
from conftest import ROOT, make_generator
from PIL import Image

from colorhub import weights

pytest.importorskip("skimage", reason="the study shows photographs that come with scikit-image")
sys.path.insert(0, str(ROOT / "benchmarks"))
import study
from recipes import RECIPES


def script_config(name):
    spec = importlib.util.spec_from_file_location(f"study_{name}", ROOT / "train" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.Digits | module.Distill if name == "classifier" else module.Config


@pytest.mark.parametrize("budget", ["cpu", "paper"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_is_a_command_that_its_script_takes(recipe, budget):
    mnist = Path("data/mnist")
    config = study.Config("data/photos", budget=budget, teacher="some.safetensors", digits=mnist)
    launcher, script = study.command(recipe, config), f"train/{recipe.script}.py"
    words = launcher[launcher.index(script) + 1 :]
    given = tyro.cli(
        script_config(recipe.script),
        args=words,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    assert given.output_dir == config.output_dir / recipe.name
    if "{digits}" in recipe.options:
        assert given.data_folder == mnist
    else:
        assert given.dataset_name == "data/photos"


def test_the_papers_twelve_variants_have_a_recipe_each():
    objectives = ("gan", "lsgan", "ebgan", "wgan")
    eight = {f"pix2pix-{name}-{distance}" for name in objectives for distance in ("l1", "l2")}
    others = {"cwgan", "fusion", "fusion-wide", "autoencoder"}
    assert {recipe.name for recipe in RECIPES if recipe.variant} == eight | others


@pytest.fixture
def finished(tmp_path):
    """A study of which pix2pix-gan-l1 alone is trained and measured."""
    folder = tmp_path / "runs" / "pix2pix-gan-l1"
    weights.save(make_generator("UNet"), folder, mean_ab=(1.0, 2.0))
    figure = {"mean": 1.25, "low": 1.0, "high": 1.5}
    metrics = dict.fromkeys(study.METRICS, figure)
    sha = json.loads((folder / "config.json").read_text())["weights_sha256"]
    photos = {"name": "data", "split": "validation"}
    results = {"metrics": {"variant": metrics, "grey": metrics}, "dataset": photos}
    results["weights_sha256"] = sha
    (folder / "results.json").write_text(json.dumps(results))
    training = {"photos_seen": 14208, "hours": 0.1, "command": "accelerate launch train/pix2pix.py"}
    (folder / "training.json").write_text(json.dumps(training))
    lines = [f"{20 * n},1,{1 + n},{2 - n / 9},{n % 3},{3 + n},{0.1 / n}" for n in range(1, 9)]
    head = "step,epoch,critic,fake,real,generator,l1"
    (folder / "training_log.csv").write_text("\n".join([head, *lines]))
    digits = tmp_path / "runs" / "resnet34"
    digits.mkdir()
    columns = "epoch,train loss,train accuracy,test loss,test accuracy"
    (digits / "metrics.csv").write_text(f"{columns}\n1,0.5,0.9,0.4,0.91\n2,0.3,0.95,0.25,0.9625\n")
    for name in ("curves", "confusion"):
        (digits / f"{name}.png").touch()
    return tmp_path


def test_the_page_keeps_what_people_wrote_and_is_made_anew_between_its_marks(finished, monkeypatch):
    monkeypatch.setattr(study, "ROOT", finished)  # without bundled variants
    page = finished / "docs" / "study.md"
    page.parent.mkdir()
    page.write_text("# Ours\n\n<!-- study: table -->\nold\n<!-- /study -->\n\nWhat we found.\n")
    only = ("pix2pix-gan-l1",)
    album = finished / "album"
    album.mkdir()
    Image.new("L", (40, 30), 90).save(album / "old.png")
    study.main(
        study.Config(
            "data", only=only, train=False, output_dir=finished / "runs", page=page, photos=album
        )
    )
    text = page.read_text()
    assert text.startswith("# Ours\n\n<!-- study: table -->\n| variant |")
    assert "old" not in text and "What we found." in text
    assert "| pix2pix-gan-l1 | 1.25 (1.00 to 1.50) |" in text
    assert "| 14,208 | 6 |" in text
    assert "| resnet34 | 0.3000 | 0.2500 | 95.00 % | 96.25 % |" in text
    assert "| pix2pix-gan-l1 | -1.00 |" in text  # as the critic's loss rises, the distance falls
    pictures = {path.name for path in (finished / "docs" / "study").iterdir()}
    digits = {"digits.png", "resnet34-confusion.png"}
    assert pictures == digits | {"variants.jpg", "grey.jpg", "objectives.jpg", "losses.png"}
    with Image.open(finished / "runs" / "photos.png") as sheet:
        assert sheet.width == 2 * 132


@pytest.mark.parametrize("other", [{"output_dir": Path("empty")}, {"dataset_name": "other photos"}])
def test_a_study_with_nothing_to_show_leaves_its_page_alone(finished, other):
    page = finished / "study.md"
    page.write_text("<!-- study: table -->\nold\n<!-- /study -->\n")
    options = {"dataset_name": "data", "output_dir": finished / "runs"} | other
    with pytest.raises(SystemExit, match="is trained and measured yet"):
        study.main(study.Config(**options, train=False, page=page))
    assert "old" in page.read_text()


def test_our_own_is_shown_only_beside_what_was_measured_on_the_same_photos(finished, monkeypatch):
    run = finished / "runs" / "pix2pix-gan-l1"
    ours = finished / "model_cards" / study.OURS
    shutil.copytree(run, ours)
    monkeypatch.setattr(study, "ROOT", finished)
    config = study.Config("data", output_dir=finished / "runs")
    assert [*study.finished(config)] == ["pix2pix-gan-l1", study.OURS]
    results = json.loads((ours / "results.json").read_text())
    results["dataset"]["photos"] = 16
    (ours / "results.json").write_text(json.dumps(results))
    assert [*study.finished(config)] == ["pix2pix-gan-l1"]


def test_a_run_too_short_for_a_curve_is_left_out_of_them(finished):
    log = finished / "runs" / "pix2pix-gan-l1" / "training_log.csv"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:4]))
    logs = {"pix2pix-gan-l1": log.parent}
    assert "gan-l1" not in study.figures.tracking_table(logs)
    study.figures._losses(finished / "losses.png", logs)
    with Image.open(finished / "losses.png") as picture:
        assert picture.width > 100


def test_what_is_finished_is_not_trained_again_and_a_failure_ends_the_study(finished, monkeypatch):
    recipe = next(recipe for recipe in RECIPES if recipe.name == "pix2pix-gan-l1")
    config = study.Config("data", output_dir=finished / "runs")
    started = []

    class Failed:
        returncode = 3

    def run(words, **_):
        started.append(words)
        return Failed

    monkeypatch.setattr(study.subprocess, "run", run)
    with pytest.raises(SystemExit, match="pix2pix-gan-l1 ended with status 3"):
        study.train(recipe, config)
    assert started[0][1:4] == ["launch", "--mixed_precision", "bf16"]
    (finished / "runs" / recipe.name / "README.md").write_text("the card, written at the end")
    study.train(recipe, config)
    assert len(started) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ("extractor",)}, "extractor needs --teacher"),
        ({"only": ("resnet34", "convnet34")}, "convnet34 needs --digits"),
        ({"only": ("nope",)}, "no such recipe: nope"),
        ({"only": (), "budget": "paper"}, "resnet34 needs --digits|convnet34 needs --digits"),
        ({"photos": "missing"}, "missing is not a folder"),
        ({"photos": "runs"}, "runs holds no photo"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_trained(
    finished, monkeypatch, options, message
):
    monkeypatch.setattr(study, "train", lambda *_: pytest.fail("training began"))
    options = {"teacher": None, "only": ("pix2pix-gan-l1",)} | options
    if "photos" in options:
        options["photos"] = finished / options["photos"]
    with pytest.raises(SystemExit, match=message):
        study.main(study.Config("data", output_dir=finished / "runs", **options))
