"""The command line: one dataclass a command, its `run` names the functions that do the work.

torch, datasets and gradio are imported inside the commands that need them, so that `--help`
answers at once.
"""

import io
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction

from colorhub.colorizing import Colorize, Device
from colorhub.errors import ColorhubError, OptionError
from colorhub.photos import save_photo
from colorhub.progress import complain


@dataclass(frozen=True)
class Compare:
    """Colour one photo with several variants, side by side on one sheet.

    example: colorhub compare photo.jpg --variant natural --variant cwgan --output sheet.png
    """

    photo: Positional[Path]
    """The photo."""
    output: Path
    """The sheet's file."""
    variant: UseAppendAction[tuple[str, ...]] = ()
    """A variant; give it several times. By default all on this machine."""
    strength: float = 1.0
    """0 gives grey, 1 what the networks say, more is stronger."""
    seed: int = 0
    """Chooses among a variant's colourings: 0 is the likeliest, 1 to 7 are others of natural."""
    ab_gain: float | None = None
    """Lab units that an output of 1 stands for, instead of the variant's own (128 of most)."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        from colorhub.colorizer import Colorizer
        from colorhub.decoding import read
        from colorhub.hub import list_variants
        from colorhub.samples import contact_sheet

        names = self.variant or list_variants()
        if not names:
            raise OptionError("There is no variant on this machine: name one with --variant.")
        photo = read(self.photo).picture()
        pictures = {"original": photo.convert("RGB")}
        for name in names:
            colorizer = Colorizer.from_pretrained(name, device=self.device)
            pictures[name] = colorizer.colorize(
                photo, strength=self.strength, seed=self.seed, ab_gain=self.ab_gain
            )
        save_photo(contact_sheet(pictures), self.output)
        print(self.output)
        return 0


@dataclass(frozen=True)
class Variants:
    """List the variants that can be used by name, with their kind: what they make pictures from.

    example: colorhub variants --hub
    """

    hub: bool = False
    """Also those on the Hub, of the owners in COLORHUB_NAMESPACE or of everyone."""
    json: bool = False
    """As JSON."""

    def run(self) -> int:
        from colorhub.hub import list_variants, local_variants
        from colorhub.kinds import KINDS

        known = local_variants(None)
        rows = [
            {"name": name, "kind": kind, "source": known[name].source if name in known else "hub"}
            for kind in KINDS
            for name in list_variants(hub=self.hub, kind=kind)
        ]
        if self.json:
            print(json.dumps(rows, indent=2))
        else:
            for row in rows:
                print(f"{row['name']:32} {row['kind']:8} {row['source']}")
        return 0


@dataclass(frozen=True)
class Evaluate:
    """Measure a variant on a data set of colour photos, beside grey and the mean colour.

    example: colorhub evaluate --variant natural --dataset_name data/photos --split validation
    """

    variant: str
    """Bundled name, folder, or owner/name[@revision] on the Hub."""
    dataset_name: str
    """Hub id or local folder of a data set with an image column."""
    dataset_config_name: str | None = None
    """Configuration of the data set, where it has several."""
    split: str = "test"
    """Split to measure on."""
    image_column: str | None = None
    """Column that holds the photos; found by itself if there is only one."""
    max_images: int | None = None
    """Measure so many photos at the most."""
    crop: int | None = None
    """Measure the central square of each photo, brought to so many pixels and seen as such."""
    group_column: str | None = None
    """Also give the figures of the photos with each value in this column."""
    robustness: bool = False
    """Also measure stability, old photos, other seeds and calibration, on 100 photos at most."""
    streaming: bool = False
    """Read the data set as it comes instead of downloading it first."""
    seed: int = 0
    """Which of a variant's colourings is measured; 0 is the likeliest."""
    device: Device = "auto"
    """Where to compute."""
    output: Path | None = None
    """Write the figures to this JSON file; results.json in a variant's folder enters its card."""

    def run(self) -> int:
        _need("datasets", extra="train")
        from colorhub import cards, tables, weights
        from colorhub.colorizer import Colorizer
        from colorhub.data import SMALLEST, open_rows
        from colorhub.evaluation import evaluate
        from colorhub.provenance import dataset_facts, write_json
        from colorhub.robustness import calibration_chart, robustness

        if self.max_images is not None and self.max_images < 1:
            raise OptionError(f"--max_images is {self.max_images}; it must be 1 or more.")
        if self.crop is not None and self.crop < SMALLEST:
            raise OptionError(f"--crop is {self.crop}; it must be {SMALLEST} or more.")
        colorizer = Colorizer.from_pretrained(self.variant, device=self.device)
        assert colorizer.variant is not None
        folder = colorizer.variant.folder
        rows = open_rows(
            self.dataset_name,
            config_name=self.dataset_config_name,
            split=self.split,
            image_column=self.image_column,
            columns=(self.group_column,) if self.group_column is not None else (),
            streaming=self.streaming,
        )
        mean_ab = weights.read_config(folder)["mean_ab"]
        results = {
            "dataset": dataset_facts(self.dataset_name, self.split, rows),
            "command": self._command(),
            "weights_sha256": weights.sha256(folder / weights.WEIGHTS),
            **evaluate(
                colorizer,
                rows,
                mean_ab=mean_ab,
                max_images=self.max_images,
                seed=self.seed,
                group_column=self.group_column,
                crop=self.crop,
            ),
        }
        if self.robustness:
            results["robustness"] = robustness(
                colorizer, rows, max_images=self.max_images, seed=self.seed
            )
        shown = (tables.results_table, tables.groups_table, tables.robustness_tables)
        print("\n\n".join(filter(None, (table(results) for table in shown))))
        if self.output is not None:
            write_json(self.output, results)
            if self.output.resolve() == (folder / "results.json").resolve():
                if calibration := results.get("robustness", {}).get("calibration"):
                    save_photo(calibration_chart(calibration), folder / cards.CHART)
                cards.write(folder)
        return 0

    def _command(self) -> str:
        """The command for the card: what was measured, not where it lay on this machine."""
        from colorhub.provenance import public_words

        words = ["--variant", self.variant, "--dataset_name", self.dataset_name]
        words += ["--split", self.split, "--seed", str(self.seed)]
        if self.max_images is not None:
            words += ["--max_images", str(self.max_images)]
        if self.crop is not None:
            words += ["--crop", str(self.crop)]
        if self.group_column is not None:
            words += ["--group_column", self.group_column]
        words += ["--robustness"] * self.robustness
        return shlex.join(["colorhub", "evaluate", *public_words(words)])


@dataclass(frozen=True)
class Publish:
    """Publish a variant's folder on the Hub; safe to repeat.

    example: colorhub publish runs/cwgan --repo_id me/cwgan --revision epoch-40
    """

    folder: Positional[Path]
    """The variant's folder."""
    repo_id: str
    """Repository, owner/name; made if it does not exist."""
    revision: str | None = None
    """Tag for this state, such as epoch-40."""
    private: bool = False
    """Make the repository private."""

    def run(self) -> int:
        from colorhub import cards, hub, weights
        from colorhub.generators import EVERY

        if not self.folder.is_dir():
            raise OptionError(f"{self.folder} is no folder.")
        repo_id = hub.create(self.repo_id, private=self.private)
        with tempfile.TemporaryDirectory() as copy:  # the card there names the repository
            weights.load(self.folder, EVERY)
            hub.copy_variant(self.folder, Path(copy))
            cards.write(copy, name=repo_id, origin=self.folder)
            print(hub.publish(copy, repo_id, revision=self.revision, private=self.private))
        return 0


@dataclass(frozen=True)
class App:
    """Serve the app in the browser.

    example: colorhub app --port 8000
    """

    host: str = "127.0.0.1"
    """Address to serve on."""
    port: int = 7860
    """Port to serve on."""

    def run(self) -> int:
        _need("gradio", extra="app")
        from colorhub.app import launch

        launch(host=self.host, port=self.port)
        return 0


@dataclass(frozen=True)
class Export:
    """Write a variant as one file that runs without colorhub and without PyTorch.

    example: colorhub export natural --output natural.onnx
    """

    variant: Positional[str]
    """Bundled name, folder, or owner/name[@revision] on the Hub."""
    output: Path
    """The file, replaced if it exists."""
    format: Literal["onnx"] = "onnx"
    """What to write: ONNX, from lightness to ab, both in [-1, 1], for photos of any size."""

    def run(self) -> int:
        from colorhub.export import export

        done = export(self.variant, self.output, format=self.format)
        print(f"{done.path} ({done.megabytes:.1f} MB)")
        print(f"largest difference from PyTorch's result, in [-1, 1]: {done.difference:.0e}")
        return 0


@dataclass(frozen=True)
class Leaderboard:
    """Rank variants by the votes of the app's blind test, with 95 % intervals.

    example: colorhub leaderboard votes.jsonl
    """

    votes: Positional[tuple[Path, ...]]
    """Files of votes, or folders of *.jsonl files."""
    resamples: int = 1000
    """Times that votes are drawn anew: what the intervals are made of."""
    seed: int = 0
    """Of the drawings."""
    json: bool = False
    """As JSON."""

    def run(self) -> int:
        from colorhub import votes

        if not self.votes:
            raise OptionError("Name at least one file or folder of votes.")
        if self.resamples < 2:
            raise OptionError(f"--resamples is {self.resamples}; it must be 2 or more.")
        found, complaints = votes.read(self.votes)
        for complaint in complaints:
            complain(complaint)
        places = votes.leaderboard(found, resamples=self.resamples, seed=self.seed)
        if self.json:
            print(json.dumps(votes.facts(places), indent=2))
        else:
            print(votes.markdown(places))
            print(f"\nSorted by the lower bound; preliminary: below {votes.PRELIMINARY} votes.")
        return 1 if complaints else 0


@dataclass(frozen=True)
class Sample:
    """Draw pictures from random numbers with a variant of kind noise, on one sheet.

    example: colorhub sample --variant digits --count 16 --output sheet.png
    """

    output: Path
    """The sheet's file."""
    variant: str = "digits"
    """Bundled name, folder, or owner/name[@revision] on the Hub."""
    count: int = 16
    """Pictures to draw, at most 1024."""
    seed: int = 0
    """Which pictures; the same seed draws the same ones."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        from colorhub.photos import ending
        from colorhub.sampling import Sampler, sheet

        ending(self.output)  # refused before anything is loaded or fetched
        sampler = Sampler.from_pretrained(self.variant, device=self.device)
        save_photo(sheet(sampler.sample(self.count, seed=self.seed)), self.output)
        print(self.output)
        return 0


@dataclass(frozen=True)
class Paint:
    """Paint a sentence with a variant of kind text, such as flowers.

    Words that the variant does not know are named and passed over.

    example: colorhub paint "a photo of a yellow sunflower flower" --output flower.png
    """

    sentence: Positional[str]
    """The sentence, in quotation marks; of its known words the first 25 are painted."""
    output: Path
    """The picture's file."""
    variant: str = "flowers"
    """Bundled name, folder, or owner/name[@revision] on the Hub."""
    seed: int = 0
    """Chooses among a sentence's pictures."""
    all_words: bool = False
    """Not the last picture alone, but that of every word, side by side."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        from colorhub.painting import strip
        from colorhub.photos import ending
        from colorhub.words import Painter

        ending(self.output)  # refused before anything is loaded or fetched
        painter = Painter.from_pretrained(self.variant, device=self.device)
        pictures = painter.paint(self.sentence, seed=self.seed)
        if warning := painter.heard.warning():
            complain(warning)
        whole = strip(pictures, painter.heard.words) if self.all_words else pictures[-1]
        save_photo(whole, self.output)
        print(self.output)
        return 0


COMMANDS = (
    *(Colorize, Compare, Variants, Evaluate, Publish, App, Export, Leaderboard, Sample, Paint),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: 0 if all was done, 1 if something failed, 2 for wrong usage."""
    commands: dict[str, Any] = {command.__name__.lower(): command for command in COMMANDS}
    command: Any = tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="colorhub",
        description="Photo colorization models: colour, compare, measure, publish.",
        args=arguments,
        use_underscores=True,
        config=(FlagCreatePairsOff,),
    )
    for stream in (sys.stdout, sys.stderr):  # names of files may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # torch reads it when it is imported. Its threads would else keep a core busy while they wait,
    # which takes many times as long where other programs need that core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return command.run()
    except OptionError as error:
        complain(str(error))
        return 2
    except ColorhubError as error:
        complain(str(error))
        return 1
    except MemoryError:
        complain("this does not fit into the memory that the machine, or its limits, leave.")
        return 1
    except BrokenPipeError:  # who reads has seen enough, such as `head`
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        complain("stopped.")
        return 130


def _need(package: str, *, extra: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise OptionError(f"This command needs {package}: pip install 'colorhub[{extra}]'")
