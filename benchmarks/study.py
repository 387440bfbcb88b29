"""The comparison that the papers are about: train every variant, measure, show, write it down.

    python benchmarks/study.py --dataset_name data/photos --digits data/mnist \
        --teacher timm/mobilenetv2_100.ra_in1k --teacher_network mobilenet_v2_100
    python benchmarks/study.py --dataset_name data/photos --photos album --output_dir runs/study

A run that is finished is not trained again, one that was interrupted goes on, and a variant that
was measured with its present weights is not measured again. docs/study.md keeps what people wrote
in it; tables and figures between its marks are made anew. `--photos` colours a folder of
photographs with every variant and writes the sheet beside the runs, for eyes only.
"""

import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import study_figures as figures
import torch
import tyro
from PIL import Image
from recipes import RECIPES, Recipe

from colorhub import ColorhubError, Colorizer, weights
from colorhub.photos import EXTENSIONS, open_photo, save_photo
from colorhub.provenance import write_text
from colorhub.samples import bundled_photos

ROOT = Path(__file__).resolve().parent.parent
METRICS = ("psnr", "ssim", "ab_rmse", "ciede2000", "colorfulness_ratio")
HEADS = ("PSNR, dB ↑", "SSIM ↑", "ab RMSE ↓", "CIEDE2000 ↓", "colorfulness ratio")
GIVEN = ("teacher", "teacher_network", "backbone", "digits")  # by users, named in recipes
BUNDLED = "model_cards"
OURS = "natural"  # trained by a recipe of its own, see docs/natural.md


@dataclass(frozen=True)
class Config:
    dataset_name: str
    """Hub id or local folder of the photos to train and measure on."""
    validation_split: str = "validation"
    """Split to measure on."""
    budget: Literal["cpu", "paper"] = "cpu"
    """How large networks and runs are, see recipes.py."""
    teacher: str | None = None
    """Weights of a MobileNet with its classifier, which teaches the extractor: a file or a Hub
    repository."""
    teacher_network: str = "mobilenet_edgetpu_075"
    """Which MobileNet the teacher is."""
    backbone: str = "timm/mobilenetv2_100.ra_in1k"
    """Weights of MobileNetV2, whose features a loss compares: a file or a Hub repository."""
    digits: Path | None = None
    """Folder with MNIST's four files, for the thesis's two classifiers."""
    license: str | None = None
    """Licence of the weights, for the cards."""
    only: tuple[str, ...] = ()
    """Train and measure these recipes; the page shows all that are finished."""
    train: bool = True
    """Train what is not finished; else only measure and show."""
    output_dir: Path = Path("runs/study")
    """Folder of all runs."""
    page: Path = ROOT / "docs" / "study.md"
    """The page; its pictures go into a folder of the same name beside it."""
    photos: Path | None = None
    """Folder of photographs to colour with every variant, into OUTPUT_DIR/photos.png."""


def command(recipe: Recipe, config: Config) -> list[str]:
    """The words that start a recipe's run, or take it up where it was."""
    options = f"{recipe.options} {recipe.cpu if config.budget == 'cpu' else ''}"
    places = {name: getattr(config, name) for name in GIVEN} | {"runs": config.output_dir}
    words = [word.format(**places) for word in options.split()]
    words += ["--output_dir", str(config.output_dir / recipe.name)]
    if "{digits}" not in recipe.options:
        words += ["--dataset_name", config.dataset_name]
    if recipe.script != "classifier":  # which goes on by itself
        words += ["--resume_from_checkpoint", "latest", "--logging_steps", "40"]
        words += ["--report_to", "none"]
        words += ["--license", config.license] if config.license else []
    launcher = f"accelerate launch --mixed_precision {recipe.precision}"
    return [*launcher.split(), f"train/{recipe.script}.py", *words]


def is_finished(recipe: Recipe, config: Config) -> bool:
    """Whether a recipe's run is at its end."""
    return (config.output_dir / recipe.name / recipe.done).exists()


def train(recipe: Recipe, config: Config) -> None:
    """Run a recipe unless it is finished. Raises SystemExit if it fails."""
    if is_finished(recipe, config):
        return
    words = command(recipe, config)
    print(shlex.join(words), flush=True)
    program = Path(sys.executable).with_name(words[0])
    if status := subprocess.run([program, *words[1:]], cwd=ROOT).returncode:
        sys.exit(f"error: {recipe.name} ended with status {status}; start the study again.")


def measure(folder: Path, config: Config) -> None:
    """results.json for a variant's weights on these photos, unless it has one."""
    if (path := folder / "results.json").exists() and _on_these(folder, config):
        return
    words = ["evaluate", "--variant", str(folder), "--dataset_name", config.dataset_name]
    words += ["--split", config.validation_split, "--output", str(path)]
    print(f"measuring {folder.name}", flush=True)
    subprocess.run(
        [sys.executable, "-m", "colorhub", *words], check=True, stdout=subprocess.DEVNULL
    )


def _on_these(folder: Path, config: Config) -> bool:
    """Whether results.json tells of the folder's weights and of the photos to measure on."""
    results = json.loads((folder / "results.json").read_text())
    measured = results["weights_sha256"], results["dataset"]["name"], results["dataset"]["split"]
    sha = weights.read_config(folder)["weights_sha256"]
    return measured == (sha, config.dataset_name, config.validation_split)


@dataclass
class Run:
    """A finished variant."""

    name: str
    folder: Path

    def __post_init__(self) -> None:
        self.colorizer = Colorizer.from_pretrained(self.folder)
        self.results: dict[str, Any] = json.loads((self.folder / "results.json").read_text())
        self.training: dict[str, Any] = json.loads((self.folder / "training.json").read_text())

    @property
    def is_bundled(self) -> bool:
        """Whether its weights are those of the bundled variant of its name."""
        folder = ROOT / BUNDLED / self.name
        sha = self.results["weights_sha256"]
        return folder.exists() and weights.read_config(folder)["weights_sha256"] == sha

    @property
    def parameters(self) -> float:
        """Millions."""
        return sum(weight.numel() for weight in self.colorizer.generator.parameters()) / 1e6

    @cached_property
    def milliseconds(self) -> float:
        """For a photo of 512 x 512, from pixels to pixels: the median of several."""
        photo, times = bundled_photos()["astronaut"], []
        for _ in range(7):
            begin = time.perf_counter()
            self.colorizer.colorize(photo)
            times.append(time.perf_counter() - begin)
        return 1000 * statistics.median(times[2:])


def finished(config: Config) -> dict[str, Run]:
    """Variants that are trained and measured, in the order of the recipes, and our own."""
    places = {recipe.name: config.output_dir / recipe.name for recipe in RECIPES}
    runs = {
        name: Run(name, folder)
        for name, folder in places.items()
        if (folder / "results.json").exists() and _on_these(folder, config)
    }
    if runs:
        runs |= {run.name: run for run in bundled(OURS, next(iter(runs.values())))}
    return runs


def bundled(name: str, other: Run) -> list[Run]:
    """The bundled variant of that name if it was measured on the other's photos."""
    folder = ROOT / BUNDLED / name
    runs = [Run(name, folder)] if (folder / "results.json").exists() else []
    return [run for run in runs if run.results["dataset"] == other.results["dataset"]]


def table(runs: Iterable[Run], baselines: Run | None = None) -> str:
    """Figures with their 95 % intervals, size, speed and training of each run; those of bundled
    weights are linked to their card."""
    lines = [
        "| variant | " + " | ".join(HEADS) + " | M parameters | ms a photo | photos seen | min |"
    ]
    lines.append("|---" * (len(HEADS) + 5) + "|")
    for run in runs:
        facts = run.training
        cells = [f"[{run.name}](../{BUNDLED}/{run.name}/README.md)" if run.is_bundled else run.name]
        cells += _figures(run.results["metrics"]["variant"])
        cells += [f"{run.parameters:.1f}", f"{run.milliseconds:.0f}"]
        cells += [f"{facts['photos_seen']:,}", f"{60 * facts['hours']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    for method, label in (("grey", "grey (ab = 0)"), ("mean_ab", "mean ab")):
        if baselines is not None and method in baselines.results["metrics"]:
            cells = [label, *_figures(baselines.results["metrics"][method]), "", "", "", ""]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _figures(metrics: dict[str, dict[str, float]]) -> list[str]:
    digits = {"ssim": 3}
    return [
        "{mean:.{d}f} ({low:.{d}f} to {high:.{d}f})".format(**metrics[name], d=digits.get(name, 2))
        for name in METRICS
    ]


def commands(runs: Iterable[Run]) -> str:
    """What trained each run."""
    lines = [f"# {run.name}\n{run.training['command']}" for run in runs]
    return "```sh\n" + "\n".join(lines) + "\n```\n"


def fill(page: Path, blocks: dict[str, str]) -> None:
    """Put the blocks between the page's marks; a page that is not there is made of marks alone."""
    text = page.read_text(encoding="utf-8") if page.exists() else "# The study\n\n"
    for name, content in blocks.items():
        start, end = f"<!-- study: {name} -->\n", "<!-- /study -->"
        if start not in text and not content:
            continue
        if start not in text:
            text += f"{start}{end}\n\n"
        before, rest = text.split(start, 1)
        text = before + start + content + rest[rest.index(end) :]
    write_text(page, text)


def main(config: Config) -> None:
    if config.train and Path.cwd() != ROOT:
        sys.exit(f"error: start the study in {ROOT}: paths are reckoned from there.")
    chosen = [
        recipe
        for recipe in RECIPES
        if (recipe.name in config.only if config.only else config.budget in recipe.budgets)
    ]
    if unknown := set(config.only) - {recipe.name for recipe in RECIPES}:
        sys.exit(f"error: no such recipe: {', '.join(sorted(unknown))}.")
    for recipe in chosen:
        for name in GIVEN:
            needed = config.train and f"{{{name}}}" in recipe.options
            if needed and getattr(config, name) is None and not is_finished(recipe, config):
                sys.exit(f"error: {recipe.name} needs --{name}; --only takes other recipes.")
    photos = _photographs(config.photos) if config.photos else []
    for recipe in chosen:
        if config.train:
            train(recipe, config)
        if is_finished(recipe, config) and recipe.script != "classifier":
            measure(config.output_dir / recipe.name, config)
    runs = finished(config)
    if not runs:
        sys.exit(f"error: nothing in {config.output_dir} is trained and measured yet.")
    if photos:
        sheet = figures.grid(photos, _colorizers(runs), truth=False)
        save_photo(sheet, config.output_dir / "photos.png")
        print(config.output_dir / "photos.png")

    variants = {r.name: runs[r.name] for r in RECIPES if r.variant and r.name in runs}
    variants |= {OURS: runs[OURS]} if OURS in runs else {}
    rows = []
    for name, run in variants.items():
        rows += [run, *([] if run.is_bundled else bundled(name, run))]
    options = {name: run for name, run in runs.items() if name.startswith("lsgan-l1-")}
    base = {name: runs[name] for name in ("pix2pix-start", "pix2pix-lsgan-l1") if name in runs}
    folder = config.page.with_suffix("")
    logs = {name: config.output_dir / name for name in variants if name != OURS}
    classifiers = [r for r in RECIPES if "{digits}" in r.options and is_finished(r, config)]
    digits = {recipe.name: config.output_dir / recipe.name for recipe in classifiers}
    torch.manual_seed(0)
    figures.write_all(folder, variants=_colorizers(variants), logs=logs, digits=digits)
    fill(
        config.page,
        {
            "table": table(rows, next(iter(runs.values()))),
            "options": table([*base.values(), *options.values()]),
            "epochs": figures.epochs_table(logs),
            "tracking": figures.tracking_table(logs),
            "digits": figures.digits_table(digits),
            "commands": commands([*variants.values(), *base.values(), *options.values()]),
        },
    )
    print(config.page)


def _photographs(folder: Path) -> list[Image.Image]:
    if not folder.is_dir():
        sys.exit(f"error: --photos {folder} is not a folder.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    if not paths:
        sys.exit(f"error: --photos {folder} holds no photo.")
    return [open_photo(path) for path in paths]


def _colorizers(runs: dict[str, Run]) -> dict[str, Colorizer]:
    return {name: run.colorizer for name, run in runs.items()}


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, use_underscores=True))
    except ColorhubError as error:
        sys.exit(f"error: {error}")
