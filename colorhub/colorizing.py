"""The command that colours: photos by albums, films by one after the other, over all processes."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from tyro.conf import Positional

from colorhub.errors import OptionError
from colorhub.progress import Progress, complain, print_line

if TYPE_CHECKING:
    from colorhub.album import Album, Outcome
    from colorhub.filming import Filming
    from colorhub.journal import Job, Report

DEFAULT_VARIANT = "natural"

Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Colorize:
    """Colour photos and films.

    Folders keep their tree, and the same command again goes on where it was interrupted: what is
    done is skipped, by the photo's content, the variant's revision and the settings. Where one of
    these has changed since, the photo is named and its result kept, unless --overwrite is given.
    Photos themselves are never replaced, whatever the options. All this is true of films, too; one
    that was interrupted goes on in the middle.

    example: colorhub colorize album/ --output colored/ --variant natural
    example: colorhub colorize film.mp4 --output film-in-color.mp4 --smooth
    """

    input: Positional[tuple[Path, ...]]
    """Photos and films, or folders of them."""
    output: Path
    """A file for one photo or film (.mp4, .m4v, .mov, .mkv, .webm), else a folder."""
    variant: str = DEFAULT_VARIANT
    """Bundled name, folder, or owner/name[@revision] on the Hub."""
    strength: float = 1.0
    """0 gives grey, 1 what the network says, more is stronger."""
    seed: int = 0
    """Chooses among a variant's colourings: 0 is the likeliest, 1 to 7 are others of natural."""
    ab_gain: float | None = None
    """Lab units that an output of 1 stands for, instead of the variant's own (128 of most)."""
    device: Device = "auto"
    """Where to compute."""
    recursive: bool = False
    """Look into folders of folders, but not through links."""
    overwrite: bool = False
    """Replace files that exist, whoever made them; results that are up to date stay."""
    salvage: bool = False
    """Colour damaged and truncated photos and films as far as they go, instead of refusing them."""
    smooth: bool = False
    """Steady the colours of films along what moves; photos stay as they are."""
    profile: str = "srgb"
    """Colour profile of the results: srgb, p3 (Display P3), or an ICC file."""
    note: bool = False
    """Write into each result's XMP, or a film's comment, which variant and revision coloured it."""
    report: Path | None = None
    """JSON lines of what became of each photo; by default in the folder of results."""
    batch_size: int | None = None
    """Photos that pass the network together; by default 1 on a CPU, else 8."""
    workers: int | None = None
    """Photos that are decoded and encoded at a time; by default one a core."""

    def run(self) -> int:
        for name in ("batch_size", "workers"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise OptionError(f"--{name} is {number}; it must be 1 or more.")
        report, jobs = self._jobs()
        from colorhub import ranks
        from colorhub.colorizer import check_strength
        from colorhub.jobs import is_film
        from colorhub.results import check_profile

        check_strength(self.strength)
        check_profile(self.profile)
        if self.profile != "srgb" and any(map(is_film, jobs)):
            raise OptionError(f"--profile {self.profile} is for photos: films are written as sRGB.")
        with ranks.launched() as (rank, world):
            # Were each to go by its own list, a file that is just being added would shift them.
            jobs = ranks.broadcast(jobs, 0)
            album, filming = self._workers(report)
            with report.writing(rank):
                own = jobs[rank::world]
                photos = [job for job in own if not is_film(job)]
                films = [job for job in own if is_film(job)]
                counts = [
                    self._color(album, photos, quiet=rank > 0),
                    self._film(filming, films, quiet=rank > 0),
                ]
            failures, skipped = ranks.total(*map(sum, zip(*counts, strict=True)))
        kinds = {is_film(job) for job in jobs}
        what = "photos and films" if len(kinds) > 1 else "films" if True in kinds else "photos"
        if skipped and rank == 0:
            complain(f"{skipped} {what} were done before and have not changed.")
        if failures and rank == 0:
            complain(f"{failures} of {len(jobs)} {what} failed; the others are done.")
        return 1 if failures else 0

    def _workers(self, report: "Report") -> "tuple[Album | None, Filming]":
        """What colours photos, which a variant of films cannot, and what colours films."""
        from colorhub import filming
        from colorhub.album import Album, Settings
        from colorhub.colorizer import own_device
        from colorhub.hub import resolve
        from colorhub.weights import kind_of

        variant = resolve(self.variant)
        colorizer = filming.load(variant, own_device(self.device))
        colorizer.gain(self.ab_gain)
        how: dict[str, Any] = {
            "strength": self.strength,
            "seed": self.seed,
            "ab_gain": self.ab_gain,
            "note": self.note,
        }
        settings = Settings(**how, salvage=self.salvage, profile=self.profile)
        album = Album(colorizer, settings, report, self.overwrite, self.batch_size, self.workers)
        of_films = filming.Settings(**how, smooth=self.smooth)
        return (
            None if kind_of(variant.folder) == "video" else album,
            filming.Filming(colorizer, of_films, report, self.overwrite, self.salvage),
        )

    def _jobs(self) -> "tuple[Report, list[Job]]":
        from colorhub.jobs import jobs_for, several
        from colorhub.journal import REPORT, Report
        from colorhub.photos import EXTENSIONS

        path = self.report
        if path is None and several(self.input, self.output):
            path = self.output / REPORT
        if path is not None and path.suffix.lower() in EXTENSIONS:
            raise OptionError(f"--report {path} has a photo's name: end it in .jsonl.")
        first = os.environ.get("RANK", "0") == "0"  # of several processes one says it
        say = complain if first else lambda _: None
        report = Report(path)
        jobs = jobs_for(self.input, self.output, recursive=self.recursive, say=say, report=report)
        if not jobs:
            raise OptionError("There are no photos to colour here.")
        return report, jobs

    def _color(
        self, album: "Album | None", jobs: "Sequence[Job]", *, quiet: bool
    ) -> tuple[int, int]:
        """Colour photos and tell of each; how many failed, and how many were done before."""
        failures = skipped = 0
        if album is None:
            for job in jobs:
                complain(f"{job.photo} is a photo: {self.variant} colours films.")
            return len(jobs), 0
        outcomes = album.color(jobs)
        with closing(outcomes), Progress(len(jobs), quiet=quiet) as progress:
            for outcome in outcomes:
                failures += bool(outcome.error)
                skipped += outcome.skipped
                _say(outcome, progress.tell)
                progress.count(skipped=outcome.skipped)
        return failures, skipped

    def _film(self, filming: "Filming", jobs: "Sequence[Job]", *, quiet: bool) -> tuple[int, int]:
        """The same of films, one after the other, each with its frames counted."""
        from colorhub.filming import Step

        failures = skipped = 0
        for job in jobs:
            progress: Progress | None = None
            with closing(filming.color(job)) as events:
                for event in events:
                    if isinstance(event, Step):
                        if progress is None:
                            progress = Progress(event.total, quiet=quiet, unit="frames")
                            progress.count(event.before, skipped=True)
                        progress.count(skipped=False)
                        continue
                    if progress is not None:
                        progress.close()
                    failures += bool(event.error)
                    skipped += event.skipped
                    _say(event, print_line)
        return failures, skipped


def _say(outcome: "Outcome", tell: Callable[[str, TextIO], None]) -> None:
    """What became of a photo or a film."""
    if outcome.error:
        tell(f"colorhub: {outcome.error}", sys.stderr)
    elif not outcome.skipped:
        tell(str(outcome.job.output), sys.stdout)
    for warning in outcome.warnings:
        tell(f"colorhub: {outcome.job.photo}: {warning}.", sys.stderr)
