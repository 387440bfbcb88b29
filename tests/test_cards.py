import math
import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT, make_generator

from colorhub import cards, weights
from colorhub.generators import Fusion
from colorhub.hub import copy_variant, local_variants
from colorhub.provenance import write_json

CONFIGS = sorted((ROOT / "model_cards").glob("*/config.json"))
BUNDLED = [config for config in CONFIGS if weights.kind_of(config.parent) == "photo"]

FACTS = {
    "command": "accelerate launch train/cwgan.py --dataset_name owner/photos",
    "license": None, "init_from": None, "seed": 3,
    "dataset": {
        "name": "owner/photos", "split": "train", "on_hub": True, "photos": 1234,
        "revision": "abc123", "license": "cc0-1.0",
    },
    "resolution": 128, "batch_size": 16, "epochs": 2, "steps": 154, "photos_seen": 2464,
    "hours": 0.5, "hardware": "2 CPU cores", "mixed_precision": "bf16",
    "versions": {"colorhub": "0.1.0", "torch": "2.13.0"},
}  # fmt: skip
VALUE = {"mean": 12.345, "low": 11.0, "high": 13.5}
RESULTS = {
    "dataset": {"name": "owner/photos", "split": "test"},
    "command": "colorhub evaluate --variant tiny --dataset_name owner/photos",
    "images": 100, "skipped": 0, "seed": 0,
    "metrics": {
        method: dict.fromkeys(cards.METRICS, VALUE) for method in ("variant", "grey", "mean_ab")
    },
    "truth": {"colorfulness": VALUE},
}  # fmt: skip


JUDGED = {"ciede2000": 9.87, "ab_rmse": 12.3, "colorfulness": 21.0}
MORE = {
    "group_column": "source",
    "groups": {
        "a|b": {"images": 60, **JUDGED, "truth_colorfulness": 41.5},
        "c": {"images": 40, **JUDGED, "truth_colorfulness": 38.25},
    },
    "robustness": {
        "images": 100,
        "stability": {"size": 1.21, "flip": 2.32, "shift": 3.43, "noise": 4.54},
        "degradations": {"none": JUDGED, "aged": JUDGED, "low_resolution": JUDGED},
        "alternatives": {"diversity": 5.1, "first": 9.5, "best_of_8": 8.4, "mean_of_8": 9.9},
        "calibration": {
            "groups": [[i + 0.1, i + 0.2] for i in range(10)], "pixels": 0.56, "photos": None,
        },
    },
}  # fmt: skip


def write_results(folder: Path, sha256: str | None = None, **more) -> None:
    sha256 = sha256 or weights.sha256(folder / "model.safetensors")
    write_json(folder / "results.json", RESULTS | {"weights_sha256": sha256} | more)


def check(text: str) -> dict:
    """What can be said of any card without asking the Hub."""
    front = cards.front_matter(text)
    assert front["library_name"] == "colorhub"
    assert front["pipeline_tag"] == "image-to-image"
    assert {"image-colorization", "colorhub-variant"} <= set(front["tags"])
    assert front["license"] in (*cards.LICENSES, "other")
    if front["license"] == "other":
        assert front["license_name"] and front["license_link"]
    for name in front.get("datasets", []):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", name)
    for entry in front.get("model-index", []):
        for result in entry["results"]:
            assert result["task"]["type"] == "image-to-image"
            assert result["dataset"]["type"] and result["dataset"]["name"]
            assert all(math.isfinite(metric["value"]) for metric in result["metrics"])
    for wrong in ("More Information", "TODO", "None", "nan", "/tmp", "/home", "hf_", "[["):
        assert wrong not in text, wrong
    for heading in ("How to use", "Training", "Results", "Limits", "Citation"):
        assert f"## {heading}" in text
    return front


def test_a_card_tells_the_whole_run(variant_folder):
    write_json(variant_folder / "training.json", FACTS)
    write_results(variant_folder)
    front = check(cards.write(variant_folder).read_text())
    text = (variant_folder / "README.md").read_text()
    assert front["license"] == "cc0-1.0"
    assert front["datasets"] == ["owner/photos"]
    assert front["model-index"][0]["results"][0]["metrics"][0] == {
        "type": "psnr", "name": "PSNR, dB", "value": 12.345,
    }  # fmt: skip
    for fact in ("1,234 photos", "abc123", "seed 0", "Seed: 3", "2 CPU cores", FACTS["command"]):
        assert fact in text
    assert "12.35 (11.00 to 13.50)" in text or "12.34 (11.00 to 13.50)" in text


def test_a_card_without_a_run_says_so_and_invents_nothing(variant_folder):
    text = cards.write(variant_folder).read_text()
    front = check(text)
    assert "has not been measured" in text
    assert "model-index" not in front and "datasets" not in front


def test_figures_are_written_again_and_prose_is_kept(variant_folder):
    path = variant_folder / "README.md"
    prose = "It likes blue skies."
    path.write_text(path.read_text().replace("## Limits\n", f"## Limits\n\n{prose}\n"))
    write_json(variant_folder / "training.json", FACTS)
    write_results(variant_folder)
    cards.write(variant_folder)
    once = path.read_text()
    cards.write(variant_folder)
    assert path.read_text() == once
    assert prose in once and "has not been measured" not in once and "12.3" in once


def test_figures_of_other_weights_do_not_enter_the_card(variant_folder):
    write_results(variant_folder, sha256="0" * 64)
    assert "has not been measured" in cards.write(variant_folder).read_text()


def test_groups_and_robustness_are_shown_if_they_were_measured(variant_folder):
    write_results(variant_folder)
    before = cards.write(variant_folder).read_text()
    assert "###" not in before
    write_results(variant_folder, **MORE)
    text = cards.write(variant_folder).read_text()
    check(text)
    for line in (
        "| source | photos | CIEDE2000 ↓ | ab RMSE ↓ | colorfulness | of the true photos |",
        "| a\\|b | 60 | 9.87 | 12.30 | 21.00 | 41.50 |",
        "| 1.21 | 2.32 | 3.43 | 4.54 |",
        "| low resolution | 9.87 | 12.30 | 21.00 |",
        "| 9.50 | 8.40 | 9.90 | 5.10 |",
        "| actual | 0.2 | 1.2 |",
        "error: 0.56 over pixels.",
    ):
        assert line in text, line
    write_results(variant_folder)
    assert cards.write(variant_folder).read_text() == before


def test_the_chart_is_shown_for_what_it_is_and_not_as_a_sample(variant_folder):
    (variant_folder / "samples").mkdir()
    for name in ("epoch-001", "epoch-002", "calibration"):
        (variant_folder / "samples" / f"{name}.png").write_bytes(b"")
    write_results(variant_folder, **MORE)
    text = cards.write(variant_folder).read_text()
    assert "sample photographs](samples/epoch-002.png)" in text
    assert "actual error](samples/calibration.png)" in text
    write_results(variant_folder)  # measured again without it: the chart is of other figures
    assert "calibration.png" not in cards.write(variant_folder).read_text()


def add_variant(folder: Path, bias: float, **results) -> None:
    """Another variant, with weights of its own."""
    generator = make_generator()
    with torch.no_grad():
        list(generator.parameters())[-1].fill_(bias)
    weights.save(generator, folder)
    write_results(folder, **results)


def test_variants_measured_on_the_same_photos_are_beside_each_other(variant_folder, tmp_path):
    write_results(variant_folder)
    place = variant_folder.parent
    add_variant(place / "alike", 0.2, robustness=MORE["robustness"])
    add_variant(place / "fewer", 0.3, images=99)
    add_variant(place / "elsewhere", 0.4, dataset={"name": "owner/photos", "split": "train"})
    add_variant(place / "stale", 0.5, weights_sha256="0" * 64)
    for name, content in (("empty", "{}"), ("list", "[]"), ("cut", '{"images": 1')):
        add_variant(place / f"stranger-{name}", 0.6)
        (place / f"stranger-{name}" / "results.json").write_text(content)
    add_variant(place / "stranger-without", 0.7, dataset=None)
    text = cards.write(variant_folder).read_text()
    rows = re.findall(r"^\| (\S+) \| 0\.\d \| (.*) \|$", text, re.MULTILINE)
    own = "12.35 | 12.35 | 12.35 | 12.35 | 1.00 |"
    assert [name for name, _ in rows] == ["**tiny**", "alike"]
    assert rows[0][1].replace("12.34", "12.35").startswith(own)
    assert rows[1][1].endswith("| 1.21 | 2.32 | 3.43")

    copy = tmp_path / "far" / "copy"  # as it is published: nothing lies beside it
    copy_variant(variant_folder, copy)
    named = cards.write(copy, name="owner/tiny", origin=variant_folder).read_text()
    assert "| alike |" in named and "| tiny |" not in named
    assert "| alike |" not in cards.write(copy).read_text()


def test_a_card_without_the_newer_marks_is_left_without_them(variant_folder):
    path = variant_folder / "README.md"
    for name in ("beside", "groups", "robustness"):
        path.write_text(path.read_text().replace(cards._block(name, ""), ""))
    write_results(variant_folder, **MORE)
    assert "###" not in cards.write(variant_folder).read_text()


def test_results_from_before_the_ratio_can_be_read(variant_folder):
    older = {
        method: {name: value for name, value in each.items() if name != "colorfulness_ratio"}
        for method, each in RESULTS["metrics"].items()
    }
    write_results(variant_folder, metrics=older)
    front = check(cards.write(variant_folder).read_text())
    assert "colorfulness_ratio" not in front["metrics"]
    assert "colorfulness ratio" not in (variant_folder / "README.md").read_text()


def test_data_without_a_licence_is_said_to_have_none(variant_folder):
    write_json(
        variant_folder / "training.json", FACTS | {"dataset": FACTS["dataset"] | {"license": None}}
    )
    front = check(cards.write(variant_folder).read_text())
    assert front["license"] == "other"
    assert "none stated" in (variant_folder / "README.md").read_text()


def test_there_are_bundled_variants():
    eight = {f"pix2pix-{o}-{r}" for o in ("gan", "lsgan", "ebgan", "wgan") for r in ("l1", "l2")}
    assert eight | {"cwgan", "fusion", "fusion-wide", "autoencoder"} <= set(local_variants())


@pytest.mark.parametrize("config", BUNDLED, ids=lambda config: config.parent.name)
def test_every_bundled_variant_is_whole_and_its_card_is_current(config: Path):
    folder = config.parent
    front = check((folder / "README.md").read_text())
    assert front["model-index"]
    generator = weights.load(folder)
    assert generator.config.resolution >= 64
    megabytes = 24 if isinstance(generator, Fusion) else 12
    assert (folder / "model.safetensors").stat().st_size <= megabytes * 1e6
    before = (folder / "README.md").read_text()
    metrics = cards._read(folder / "results.json")["metrics"]
    worse = metrics["variant"]["ciede2000"]["mean"] >= metrics["grey"]["ciede2000"]["mean"]
    assert worse == bool(re.search(r"\*\*Its CIEDE2000.* worse than .* the grey photo", before))
    cards.write(folder)
    assert (folder / "README.md").read_text() == before


def test_readme_s_table_is_that_of_the_cards(tmp_path):
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "README.md").write_text(readme)
    cards.update_table(tmp_path / "README.md", ROOT / "model_cards")
    assert (tmp_path / "README.md").read_text() == readme, "run: make table"
