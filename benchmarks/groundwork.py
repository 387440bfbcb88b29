"""The groundwork's claims, tested: pictures from noise under four objectives, measured, shown.

    python benchmarks/groundwork.py --digits data/mnist --photos data/photos

Trains a classifier of digits, by whose features pictures are measured, and then the runs of
groundwork_runs.py one after the other. What is finished is not trained again, what was interrupted
goes on. docs/groundwork.md keeps what people wrote in it; what is between its marks is made anew.
"""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import groundwork_figures as figures
import tyro
from datasets import load_dataset
from groundwork_runs import RUNS, SOURCES, Run

from colorhub import ColorhubError
from colorhub.provenance import write_text

ROOT = Path(__file__).resolve().parent.parent
CLASSIFIER = "digits --width 16 --learning_rate 0.05 --num_train_epochs 3"
FURNITURE = "--checkpointing_steps 1000 --checkpoints_total_limit 1 --report_to none"


@dataclass(frozen=True)
class Config:
    digits: Path
    """Folder with MNIST's four files."""
    photos: str | None = None
    """Hub id or local folder of photos with a column `source`; without it, digits alone."""
    only: tuple[str, ...] = ()
    """Train these runs; the page shows all that are finished."""
    train: bool = True
    """Train what is not finished; else only show."""
    output_dir: Path = Path("runs/groundwork")
    """Folder of all runs."""
    page: Path = ROOT / "docs" / "groundwork.md"
    """The page; its pictures go into a folder of the same name beside it."""


def command(run: Run, config: Config) -> list[str]:
    """The words that start a run, or take it up where it was."""
    folder = config.output_dir
    places = {"digits": config.digits, "classifier": folder / "classifier"}
    places |= {name: folder / "data" / name for name in SOURCES}
    words = [word.format(**places) for word in f"{run.options} {FURNITURE}".split()]
    words += ["--logging_steps", str(run.every), "--resume_from_checkpoint", "latest"]
    if "--quality_from" in words:
        words += ["--quality_steps", str(run.every)]
    return ["train/noise.py", *words, "--output_dir", str(folder / run.name)]


def start(words: list[str], precision: str = "bf16") -> None:
    """Run a script of train/. Raises SystemExit if it fails."""
    line = ["accelerate", "launch", "--mixed_precision", precision, *words]
    print(shlex.join(line), flush=True)
    program = Path(sys.executable).with_name(line[0])
    if status := subprocess.run([program, *line[1:]], cwd=ROOT).returncode:
        sys.exit(f"error: it ended with status {status}; start the groundwork again.")


def prepare(config: Config) -> None:
    """The classifier, and the photos of each kind as data sets of their own."""
    folder = config.output_dir
    if not (folder / "classifier" / "curves.png").exists():
        words = ["--data_folder", str(config.digits), "--output_dir", str(folder / "classifier")]
        start(["train/classifier.py", *CLASSIFIER.split(), *words], "no")
    for name, sources in SOURCES.items() if config.photos else ():
        if not (path := folder / "data" / name / "train.parquet").exists():
            rows = load_dataset(config.photos, split="train")
            chosen = [place for place, each in enumerate(rows["source"]) if each in sources]
            path.parent.mkdir(parents=True, exist_ok=True)
            rows.select(chosen).to_parquet(path)


def finished(config: Config, *groups: str) -> list[Path]:
    """Folders of the finished runs of some groups."""
    folders = [config.output_dir / run.name for run in RUNS if run.group in groups]
    return [folder for folder in folders if (folder / "README.md").exists()]


def fill(page: Path, blocks: dict[str, str]) -> None:
    """Put the blocks between the page's marks; those it does not have are added at its end."""
    text = page.read_text(encoding="utf-8") if page.exists() else "# The groundwork\n\n"
    for name, content in blocks.items():
        start, end = f"<!-- groundwork: {name} -->\n", "<!-- /groundwork -->"
        if start not in text:
            text += f"{start}{end}\n\n"
        before, rest = text.split(start, 1)
        text = before + start + content + rest[rest.index(end) :]
    write_text(page, text)


def commands(folders: list[Path]) -> str:
    """What trained each run."""
    lines = [f"# {folder.name}\n{figures.facts(folder)['command']}" for folder in folders]
    return "```sh\n" + "\n".join(lines) + "\n```\n"


def show(config: Config) -> None:
    """Make the page's tables and figures of what is finished."""
    pictures = config.page.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    dcgan, mlp = finished(config, "dcgan"), finished(config, "mlp")
    rate, photos = finished(config, "rate"), finished(config, "photos")
    beside = [folder for folder in dcgan if folder.name == "dcgan-gan"]
    for name, folders in {"dcgan": dcgan, "mlp": mlp, "rate": [*beside, *rate]}.items():
        if folders:
            figures.curves(pictures / f"{name}.png", folders)
    digits = [*dcgan, *mlp, *rate]
    figures.rows_of_pictures(pictures / "digits.png", digits)
    if scenes := [folder for folder in photos if folder.name.startswith("scenes")]:
        figures.rows_of_pictures(pictures / "scenes.jpg", scenes, columns=4)
    if people := [folder for folder in photos if folder.name.startswith("people")]:
        figures.rows_of_pictures(pictures / "people.jpg", people)
    blocks = {
        "quality": figures.quality_table(digits),
        "tracking": figures.tracking_table([*dcgan, *mlp]),
        "photos": figures.photos_table(photos),
        "commands": commands([*digits, *photos]),
    }
    fill(config.page, blocks)
    print(config.page)


def main(config: Config) -> None:
    if config.train and Path.cwd() != ROOT:
        sys.exit(f"error: start the groundwork in {ROOT}: paths are reckoned from there.")
    if unknown := set(config.only) - {run.name for run in RUNS}:
        sys.exit(f"error: no such run: {', '.join(sorted(unknown))}.")
    if config.train:
        prepare(config)
    for run in RUNS if config.train else ():
        wanted = run.name in config.only if config.only else config.photos or run.group != "photos"
        if wanted and not (config.output_dir / run.name / "README.md").exists():
            start(command(run, config))
    if not finished(config, "dcgan", "mlp"):
        sys.exit(f"error: no run of digits in {config.output_dir} is finished yet.")
    show(config)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, use_underscores=True))
    except ColorhubError as error:
        sys.exit(f"error: {error}")
