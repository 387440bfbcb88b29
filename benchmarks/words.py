"""Do pictures follow their sentences? The paper's three losses, trained alike and measured.

    python benchmarks/words.py --dataset_name data/flowers --also model_cards/flowers

A run that is finished is not trained again, one that was interrupted goes on. The tables are put
between the marks of docs/words.md, whose sentences stay as they are.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from colorhub import ColorhubError, weights
from colorhub.captions import all_captions
from colorhub.conditioning import Figures, figures, tables
from colorhub.data import open_rows
from colorhub.generators import KINDS
from colorhub.provenance import public_words, write_text
from colorhub.sentences import held_back_pairs
from colorhub.tables import free_tables
from colorhub.vocabulary import tokens

ROOT = Path(__file__).resolve().parent.parent
LOSSES = ("original", "penalty", "mean")
# What two cores do in minutes; the paper trained for days.
OPTIONS = (
    "--resolution 16 --width 24 --maps 8 --noise_dim 8 --critic_width 16 --judged_words 2 "
    "--critic_rate 0.1 --drop_words 0.1 --train_batch_size 8 --learning_rate 2e-3 "
    "--lr_scheduler cosine --num_train_epochs 10 --report_to none --dataloader_num_workers 0"
)
_MARKS = re.compile(r"(<!-- words: tables -->\n).*?(<!-- /words -->)", re.DOTALL)


@dataclass(frozen=True)
class Config:
    dataset_name: str
    """Hub id or local folder of pictures with captions that name colours."""
    caption_column: str = "caption"
    """Column of the captions."""
    train_split: str = "train"
    """Split that the variants learned from."""
    validation_split: str = "validation"
    """Split to measure on."""
    max_images: int = 500
    """Captions to measure on."""
    options: str = OPTIONS
    """Options of the three runs."""
    output_dir: Path = Path("runs/words")
    """Folder of the runs."""
    also: tuple[Path, ...] = ()
    """Folders of other variants to measure."""
    page: Path = ROOT / "docs" / "words.md"
    """The page that the tables are written into."""


def train(config: Config, loss: str) -> Path:
    """Train a variant, or take its run up where it was."""
    folder = config.output_dir / loss
    words = ["--dataset_name", config.dataset_name, "--caption_column", config.caption_column]
    words += ["--train_split", config.train_split, "--distance", loss]
    words += [*shlex.split(config.options), "--output_dir", str(folder)]
    words += ["--resume_from_checkpoint", "latest"]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    script = str(ROOT / "train" / "text2image.py")
    subprocess.run([sys.executable, script, *words], check=True, env=environment)
    return folder


def measure(config: Config, folder: Path) -> Figures:
    """A variant on the held-back captions."""
    generator = weights.load(folder, KINDS["text"])
    columns = (config.caption_column,)
    rows, training = (
        open_rows(config.dataset_name, split=split, columns=columns)
        for split in (config.validation_split, config.train_split)
    )
    seen = {" ".join(tokens(each)) for each in all_captions(training, config.caption_column)}
    pairs = held_back_pairs(rows, config.caption_column, generator.config, most=config.max_images)
    return figures(generator, *pairs, seen)


def main(config: Config) -> None:
    folders = {f"`{loss}`": train(config, loss) for loss in LOSSES}
    parts = tables({name: measure(config, folder) for name, folder in folders.items()})
    for folder in config.also:
        parts += tables({f"`{folder.name}`": measure(config, folder)})
    command = shlex.join(["python", "benchmarks/words.py", *public_words(sys.argv[1:])])
    text = free_tables({"tables": parts, "command": command})
    print(text)
    page = config.page.read_text(encoding="utf-8")
    write_text(config.page, _MARKS.sub(lambda match: f"{match[1]}{text}{match[2]}", page))


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, use_underscores=True))
    except (ColorhubError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
