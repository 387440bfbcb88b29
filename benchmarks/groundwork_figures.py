"""The groundwork's pictures and tables, read off the runs' folders."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import spearmanr

from colorhub.drawing import Drawing
from colorhub.options import Options
from colorhub.photos import save_photo
from colorhub.sampling import Sampler, pictures, sheet

COLUMNS = 14  # pictures of a row
LOSSES = ("generator", "critic")
_BETWEEN = 90  # pixels for a run's name


def log(folder: Path) -> dict[str, np.ndarray]:
    """A run's log as columns; rows that lack a value are left out."""
    with open(folder / "training_log.csv", newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if all(row.values())]
    return {name: np.array([float(row[name]) for row in rows]) for name in reader.fieldnames or ()}


def facts(folder: Path, name: str = "training.json") -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def curves(path: Path, folders: Sequence[Path]) -> None:
    """Both losses by step, and below them the Frechet distance: a run a column."""
    figure = Figure(figsize=(3.1 * len(folders), 5.2), layout="constrained")
    axes = figure.subplots(2, len(folders), squeeze=False, sharex="col")
    for column, folder in enumerate(folders):
        rows = log(folder)
        above, below = axes[:, column]
        for loss, color in zip(LOSSES, ("tab:blue", "tab:orange"), strict=True):
            above.plot(rows["step"], rows[loss], color=color, label=f"{loss}'s loss")
        below.plot(rows["step"], rows["frechet"], color="tab:green")
        below.set(yscale="log", xlabel="step")
        above.set_title(folder.name)
    axes[1, 0].set_ylabel("Frechet distance")
    for each in axes.flat:
        each.grid(alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=80)


def rows_of_pictures(path: Path, folders: Sequence[Path], *, columns: int = COLUMNS) -> None:
    """The first pictures of seed 0, a run a row, none chosen."""
    strips = []
    for folder in folders:
        drawn = Sampler.from_pretrained(folder, device="cpu").sample(columns, seed=0)
        strips.append(sheet(drawn, columns=columns))
    width = max(strip.width for strip in strips) + _BETWEEN
    whole = Image.new("RGB", (width, sum(strip.height for strip in strips)), "white")
    draw, font, top = ImageDraw.Draw(whole), ImageFont.load_default(size=12), 0
    for folder, strip in zip(folders, strips, strict=True):
        name = folder.name.replace("-", "\n", 1)
        draw.text((4, top + strip.height // 2 - 14), name, fill="black", font=font)
        whole.paste(strip, (_BETWEEN, top))
        top += strip.height
    save_photo(whole, path)


def quality_table(folders: Sequence[Path]) -> str:
    """What each run of digits came to, and what it cost."""
    heads = [
        *("run", "epochs", "generator's steps", "Frechet distance ↓", "lowest in the log"),
        *("rarest, commonest digit", "minutes"),
    ]
    rows = []
    for folder in folders:
        run, (own, _) = facts(folder), facts(folder, "results.json")["tables"][0]["rows"]
        steps = run["steps"] // (5 if "wgan" in folder.name else 1)
        lowest = log(folder)["frechet"].min()
        rows.append([folder.name, str(run["epochs"]), f"{steps:,}", own[1], f"{lowest:.2f}"])
        rows[-1] += [own[2], f"{60 * run['hours']:.0f}"]
    if folders:
        real = facts(folders[0], "results.json")["tables"][0]["rows"][1]
        rows.append(["training digits", "", "", real[1], "", real[2], ""])
    return table(heads, rows)


def tracking_table(folders: Sequence[Path]) -> str:
    """Spearman's rank correlation of each loss with the Frechet distance along each run."""
    heads = ["run", "points"]
    for loss in LOSSES:
        heads += [f"{loss}: whole run", "second half", "changes"]
    rows = []
    for folder in folders:
        run = log(folder)
        half = len(run["step"]) // 2
        rows.append([folder.name, str(len(run["step"]))])
        for loss in LOSSES:
            value, distance = run[loss], run["frechet"]
            pairs = (
                (value, distance),
                (value[half:], distance[half:]),
                (np.diff(value), np.diff(distance)),
            )
            rows[-1] += [f"{spearmanr(*pair).statistic:+.2f}" for pair in pairs]
    return table(heads, rows)


def photos_table(folders: Sequence[Path]) -> str:
    """What was done with photos, and how different 64 pictures are: of how good there is no figure.

    The photos themselves lie in data/ beside the runs.
    """
    heads = ["run", "pixels", "photos", "epochs", "steps", "last losses", "apart", "minutes"]
    rows: list[list[str]] = []
    real: dict[Path, int] = {}
    for folder in folders:
        run, last = facts(folder), {name: each[-1] for name, each in log(folder).items()}
        drawn = Sampler.from_pretrained(folder, device="cpu").sample(64, seed=0)
        losses = f"generator {last['generator']:.3f}, critic {last['critic']:.3f}"
        photos = f"{run['dataset']['photos']:,}"
        rows.append([folder.name, str(run["resolution"]), photos, str(run["epochs"])])
        rows[-1] += [f"{run['steps']:,}", losses, f"{_apart(drawn):.1f}"]
        rows[-1] += [f"{60 * run['hours']:.0f}"]
        data = folder.parent / "data" / folder.name.split("-")[0]
        real.setdefault(data, run["resolution"])
    for data, resolution in real.items():
        if data.is_dir():
            some = Drawing(Options(dataset_name=str(data)), 3, resolution).real("train", 64)
            apart = f"{_apart(pictures(some)):.1f}"
            rows.append([f"the photos of {data.name}", str(resolution), *[""] * 4, apart, ""])
    return table(heads, rows)


def _apart(drawn: Sequence[Image.Image]) -> float:
    """Root mean square difference of two pictures, in levels, over all pairs."""
    pixels = np.stack([np.asarray(each, np.float64).ravel() for each in drawn])
    # The mean over pairs of |x - y|^2 is twice the variance, by its unbiased estimate.
    return float(np.sqrt(2 * pixels.var(axis=0, ddof=1).mean()))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows] if rows else []
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
