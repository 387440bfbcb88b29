"""The study's pictures and the tables that are read off training logs."""

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy.stats import spearmanr
from skimage import data
from strips import photographs

from colorhub import Colorizer
from colorhub.colorizer import paint
from colorhub.photos import save_photo

CELL = 128  # pixels
# Grey photographs that come inside scikit-image.
GREY = ("camera", "coins", "clock_motion", "moon", "grass", "gravel", "brick")
OBJECTIVES = ("gan", "lsgan", "ebgan", "wgan")
SMOOTH = 5  # rows of the log in a running mean


def grid(
    photos: Sequence[Image.Image], variants: Mapping[str, Colorizer], *, truth: bool = True
) -> Image.Image:
    """A row a photo, a column a variant; the grey input before them, the truth behind."""
    heads = ["input", *variants, *(["truth"] if truth else [])]
    sheet = Image.new("RGB", (len(heads) * (CELL + 4), len(photos) * (CELL + 4) + 22), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for column, head in enumerate(heads):
        short = head.removeprefix("pix2pix-")
        draw.text((column * (CELL + 4) + 4, 4), short, fill="black", font=font)
    for row, photo in enumerate(photos):
        colour = photo.convert("RGB")
        results = [each.colorize(photo) for each in variants.values()]
        grey = paint(colour, next(iter(variants.values())).predict(colour), strength=0)
        cells = [grey, *results, *([colour] if truth else [])]
        for column, cell in enumerate(cells):
            square = ImageOps.fit(cell, (CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(square, (column * (CELL + 4), row * (CELL + 4) + 22))
    return sheet


def write_all(
    folder: Path,
    *,
    variants: Mapping[str, Colorizer],
    logs: Mapping[str, Path],
    digits: Mapping[str, Path],
) -> None:
    """Every picture of the page, into `folder`; those without runs to show are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    save_photo(grid(photographs(), variants), folder / "variants.jpg")
    greys = [Image.open(Path(data.data_dir, f"{name}.png")).convert("L") for name in GREY]
    save_photo(grid(greys, variants, truth=False), folder / "grey.jpg")
    pix2pix = {name: each for name, each in variants.items() if name.startswith("pix2pix-")}
    if pix2pix:
        save_photo(grid(photographs(), pix2pix), folder / "objectives.jpg")
    if epochs := _chosen_epochs(logs):
        save_photo(_over_epochs(logs["cwgan"], epochs), folder / "epochs.jpg")
    _losses(folder / "losses.png", logs)
    if digits:
        _curves(folder / "digits.png", digits)
    for name, run in digits.items():
        shutil.copyfile(run / "confusion.png", folder / f"{name}-confusion.png")


def epochs_table(logs: Mapping[str, Path]) -> str:
    """Paper 1's table: cwgan's losses at five epochs of its run."""
    chosen = _chosen_epochs(logs)
    if not chosen:
        return ""
    rows = _log(logs["cwgan"])
    lines = ["| epoch | generator | L1, Lab units | critic | distance |", "|---" * 5 + "|"]
    for epoch in chosen:
        own = rows["epoch"] == epoch
        means = {name: values[own].mean() for name, values in rows.items()}
        lines.append(
            f"| {epoch} | {means['generator']:.3f} | {128 * means['l1']:.2f} | "
            f"{means['critic']:.3f} | {means['distance']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def tracking_table(logs: Mapping[str, Path]) -> str:
    """How well each objective's own losses rank the generator's states by their L1 distance."""
    lines = ["| variant | critic's loss | given to coloured photos |", "|---" * 3 + "|"]
    for name, folder in logs.items():
        rows = _log(folder)
        if name.startswith("pix2pix-") and len(rows["l1"]) > SMOOTH:
            distance = _smooth(rows["l1"])
            cells = [
                f"{spearmanr(_smooth(rows[loss]), distance).statistic:+.2f}"
                for loss in ("critic", "fake")
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def digits_table(digits: Mapping[str, Path]) -> str:
    """The thesis's classifiers on MNIST after their last epoch."""
    lines = [
        "| network | train loss | test loss | train accuracy | test accuracy |",
        "|---" * 5 + "|",
    ]
    for name, folder in digits.items():
        last = {column: values[-1] for column, values in _log(folder, "metrics.csv").items()}
        losses = [f"{last[f'{split} loss']:.4f}" for split in ("train", "test")]
        rates = [f"{100 * last[f'{split} accuracy']:.2f} %" for split in ("train", "test")]
        lines.append("| " + " | ".join([name, *losses, *rates]) + " |")
    return "\n".join(lines) + "\n" if digits else ""


def _chosen_epochs(logs: Mapping[str, Path]) -> list[int]:
    """First, quarter, half, three quarters and last of cwgan's epochs, if all have samples."""
    folder = logs.get("cwgan")
    found = sorted(folder.glob("samples/epoch-*.png")) if folder else []
    epochs = [int(path.stem.split("-")[1]) for path in found]
    if len(epochs) < 5 or epochs != [*range(1, len(epochs) + 1)]:
        return []
    places = np.linspace(0, len(epochs) - 1, 5).round().astype(int)
    return [epochs[place] for place in places]


def _over_epochs(folder: Path, epochs: Sequence[int]) -> Image.Image:
    """Triptychs of two photographs (input, truth, output) at some epochs, two epochs a row."""
    parts = []
    for epoch in epochs:
        sheet = Image.open(folder / "samples" / f"epoch-{epoch:03}.png")
        parts.append(sheet.crop((0, 0, sheet.width, 2 * 192)))
    width, height = parts[0].size
    result = Image.new("RGB", (2 * width, (len(parts) + 1) // 2 * (height + 30)), "white")
    draw, font = ImageDraw.Draw(result), ImageFont.load_default(size=20)
    for place, (epoch, part) in enumerate(zip(epochs, parts, strict=True)):
        left, top = place % 2 * width, place // 2 * (height + 30)
        draw.text((left + 4, top + 2), f"epoch {epoch}", fill="black", font=font)
        result.paste(part, (left, top + 30))
    return ImageOps.scale(result, 2 / 3, Image.Resampling.LANCZOS)


def _losses(path: Path, logs: Mapping[str, Path]) -> None:
    """By step: critic's loss, what it gives to coloured photos, L1; an objective a column."""
    shown = [name for name in OBJECTIVES if f"pix2pix-{name}-l1" in logs]
    if not shown:
        return
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(3, len(shown), squeeze=False, sharex=True)
    for column, objective in enumerate(shown):
        for reconstruction, color in (("l1", "tab:blue"), ("l2", "tab:orange")):
            if (folder := logs.get(f"pix2pix-{objective}-{reconstruction}")) is None:
                continue
            rows = _log(folder)
            if len(rows["l1"]) < SMOOTH:
                continue
            for row, (loss, label) in enumerate(
                (("critic", "critic's loss"), ("fake", "given to coloured photos"), ("l1", "L1"))
            ):
                values = rows[loss] * (128 if loss == "l1" else 1)
                steps = rows["step"][SMOOTH - 1 :]
                axes[row, column].plot(steps, _smooth(values), color=color, label=reconstruction)
                axes[row, 0].set_ylabel(label + (", Lab units" if loss == "l1" else ""))
        axes[0, column].set_title(objective)
        axes[-1, column].set_xlabel("step")
    for each in axes.flat:
        each.grid(alpha=0.3)
    lines, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=2, title="reconstruction")
    figure.savefig(path, dpi=110)


def _curves(path: Path, digits: Mapping[str, Path]) -> None:
    """By epoch: loss and accuracy of each classifier, a colour a classifier."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for color, (name, folder) in zip(("tab:blue", "tab:orange"), digits.items(), strict=False):
            rows = _log(folder, "metrics.csv")
            for split, style in (("train", "--"), ("test", "-")):
                label, values = f"{name}, {split}", rows[f"{split} {kind}"]
                axes.plot(rows["epoch"], values, style, color=color, marker="o", label=label)
        axes.set(xlabel="epoch", ylabel=kind)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)


def _log(folder: Path, name: str = "training_log.csv") -> dict[str, np.ndarray]:
    """A log as columns, rows that lack a loss (of a run's first steps) left out."""
    with open(folder / name, newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if all(row.values())]
    return {name: np.array([float(row[name]) for row in rows]) for name in reader.fieldnames or ()}


def _smooth(values: np.ndarray) -> np.ndarray:
    return np.convolve(values, np.ones(SMOOTH) / SMOOTH, mode="valid")
