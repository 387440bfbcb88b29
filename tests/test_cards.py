import math
import re
from pathlib import Path

import pytest
from conftest import ROOT

from colorhub import cards, weights
from colorhub.hub import local_variants
from colorhub.provenance import write_json

BUNDLED = sorted((ROOT / "model_cards").glob("*/config.json"))

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


def write_results(folder: Path, sha256: str | None = None) -> None:
    sha256 = sha256 or weights.sha256(folder / "model.safetensors")
    write_json(folder / "results.json", RESULTS | {"weights_sha256": sha256})


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


def test_data_without_a_licence_is_said_to_have_none(variant_folder):
    write_json(
        variant_folder / "training.json", FACTS | {"dataset": FACTS["dataset"] | {"license": None}}
    )
    front = check(cards.write(variant_folder).read_text())
    assert front["license"] == "other"
    assert "none stated" in (variant_folder / "README.md").read_text()


def test_there_are_bundled_variants():
    assert {"cwgan", "autoencoder"} <= set(local_variants())


@pytest.mark.parametrize("config", BUNDLED, ids=lambda config: config.parent.name)
def test_every_bundled_variant_is_whole_and_its_card_is_current(config: Path):
    folder = config.parent
    front = check((folder / "README.md").read_text())
    assert front["model-index"]
    generator = weights.load(folder)
    assert generator.config.resolution >= 64
    assert (folder / "model.safetensors").stat().st_size <= 12 * 2**20
    metrics = cards._read(folder / "results.json")["metrics"]
    for metric in ("ab_rmse", "ciede2000"):
        assert metrics["variant"][metric]["mean"] < metrics["grey"][metric]["mean"], metric
    before = (folder / "README.md").read_text()
    cards.write(folder)
    assert (folder / "README.md").read_text() == before


def test_readme_s_table_is_that_of_the_cards(tmp_path):
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "README.md").write_text(readme)
    cards.update_table(tmp_path / "README.md", ROOT / "model_cards")
    assert (tmp_path / "README.md").read_text() == readme, "run: make table"
