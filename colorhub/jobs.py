"""Which photos and films a command line means, and where their results go."""

import itertools
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from colorhub.errors import OptionError
from colorhub.journal import REPORT, Job, Report, folder_of, place_of
from colorhub.photos import EXTENSIONS
from colorhub.reels import ENDINGS

# What takes the place of endings whose format we do not write, or which stand for grey.
_INSTEAD = {".heic": ".jpg", ".heif": ".jpg", ".pgm": ".ppm", ".pbm": ".ppm", ".pnm": ".ppm"}
_INSTEAD |= {".gif": ".png", ".jpe": ".jpg", ".jfif": ".jpg"}
# Films that are read; those whose containers we do not write become MP4.
_FILMS = dict.fromkeys(ENDINGS) | dict.fromkeys(
    (*(".avi", ".mpg", ".mpeg", ".vob", ".mts", ".m2ts", ".wmv", ".asf"), ".flv", ".3gp", ".ogv"),
    ".mp4",
)


def several(inputs: Sequence[Path], output: Path) -> bool:
    """Whether results go into a folder; else there is one, and the output is its file."""
    # os.path's questions, unlike Path's, have an answer where a folder may not be entered.
    return len(inputs) != 1 or os.path.isdir(inputs[0]) or os.path.isdir(output)


def jobs_for(
    inputs: Sequence[Path],
    output: Path,
    *,
    recursive: bool,
    say: Callable[[str], None],
    report: Report | None = None,
) -> list[Job]:
    """Photos and folders of photos, and a file for one or a folder for several results, to jobs.

    Below the output folder results lie as the photos lie below theirs, and have their names: with
    another ending where the format is not written, and with a number where the name is taken. A
    photo that the report knows keeps its result's name, whatever was added since. What is passed
    over is said. Raises OptionError if inputs and output do not go together, which includes that
    a result would take a photo's place.
    """
    if not inputs:
        raise OptionError("Name at least one photo or folder.")
    if not several(inputs, output):
        known = ENDINGS if is_film(Job(inputs[0], output)) else EXTENSIONS
        if output.suffix.lower() not in known:
            endings = ", ".join(known)
            raise OptionError(f"--output {output}: end it in {endings}, or make it a folder first.")
        return _sparing_photos([Job(inputs[0], output)], None, Report())
    if os.path.exists(output) and not os.path.isdir(output):
        raise OptionError(f"--output {output} is a file: several photos need a folder.")
    report = report or Report()
    photos: list[Job] = []  # each with its name instead of its output
    for place in inputs:
        photos += _Folder(place, output, report, say).jobs(recursive)
    once = {place_of(job.photo): job for job in reversed(photos)}
    if twice := len(photos) - len(once):
        say(f"{twice} photos are named more than once; each is coloured once.")
    jobs = _named(list(reversed(once.values())), output, report)
    return _sparing_photos(jobs, output, report)


def is_film(job: Job) -> bool:
    """Whether a job is a film's: by its name, or if that says nothing, by its result's."""
    suffix = job.photo.suffix.lower()
    if suffix in (*EXTENSIONS, *_INSTEAD):
        return False
    return suffix in _FILMS or job.output.suffix.lower() in ENDINGS


def result_name(photo: Path) -> Path:
    """The name of a photo's result: its own, with another ending if it cannot hold the colours."""
    suffix = photo.suffix.lower()
    if suffix in _INSTEAD:
        return photo.with_suffix(_INSTEAD[suffix])
    if suffix in _FILMS:
        return photo.with_suffix(_FILMS[suffix] or photo.suffix)
    return photo if suffix in EXTENSIONS else photo.with_name(photo.name + ".png")


@dataclass(frozen=True)
class _Folder:
    """The photos of an input, which may be a photo itself."""

    place: Path
    output: Path
    report: Report
    say: Callable[[str], None]

    def jobs(self, recursive: bool) -> list[Job]:
        """Each with its name below the output folder as its output."""
        if not os.path.isdir(self.place):
            return [Job(self.place, Path(self.place.name))]
        if _identity(self.place) == _identity(self.output):
            raise OptionError(
                f"--output {self.output} is the folder of the photos themselves, which are never "
                f"replaced: choose another, such as {self.output / 'colored'}."
            )
        jobs, unknown = [], 0
        for folder, files, error in self._walk(recursive):
            photos = [Path(entry.path) for entry in files if _is_photo(entry)]
            unknown += len(files) - len(photos)
            photos = [photo for photo in photos if not self.report.made(photo)]
            jobs += [Job(photo, photo.relative_to(self.place)) for photo in photos]
            if error:
                jobs.append(Job(folder, folder.relative_to(self.place), error))
        if unknown:
            self.say(
                f"{self.place}: {unknown} files passed over that are hidden, "
                "or no photos by their names."
            )
        if not jobs:
            self.say(f"{self.place}: no photos in this folder.")
        return jobs

    def _walk(self, recursive: bool) -> Iterator[tuple[Path, list[os.DirEntry[str]], str]]:
        """(folder, its files, why it cannot be read), in the order of names."""
        folders = [self.place]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                yield folder, [], f"{folder}: this folder cannot be read ({error.strerror})."
                continue
            below = [entry for entry in entries if _mode(entry) == stat.S_IFDIR]
            yield folder, [entry for entry in entries if _mode(entry) != stat.S_IFDIR], ""
            if recursive:
                folders += [Path(each.path) for each in reversed(below) if self._enters(each)]

    def _enters(self, folder: os.DirEntry[str]) -> bool:
        """Not results, which are no photos to colour; not links, which may lead round in rings."""
        path = Path(folder.path)
        if folder.name.startswith(".") or _identity(path) == _identity(self.output):
            return False
        if folder.is_symlink():
            self.say(f"{path} is a link to a folder: passed over; name it as an input of its own.")
            return False
        if os.path.exists(path / REPORT):
            self.say(f"{path} is a folder of results: passed over.")
            return False
        return True


def _is_photo(entry: os.DirEntry[str]) -> bool:
    """By its name; other systems' hidden files have photos' names, too."""
    known = Path(entry.name).suffix.lower() in (*EXTENSIONS, *_INSTEAD, *_FILMS)
    return known and not entry.name.startswith(".") and _mode(entry) in (0, stat.S_IFREG)


def _mode(entry: os.DirEntry[str]) -> int:
    """The kind of what it is or leads to; 0 if there is nothing, which reading it will say."""
    try:
        return stat.S_IFMT(entry.stat().st_mode)
    except OSError:
        return 0


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file is whatever it is called, also where capitals do not count."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _sparing_photos(jobs: list[Job], results: Path | None, report: Report) -> list[Job]:
    """The jobs, if no result takes a photo's place, whatever the options.

    Where results go among the photos, files that no run of ours has made are photos, too.
    """
    photos = {_identity(job.photo) for job in jobs} - {None}
    for job in (job for job in jobs if not job.error):
        among = results and folder_of(results.absolute()) in place_of(job.photo).parents
        foreign = among and os.path.lexists(job.output) and not report.made(job.output)
        if foreign or _identity(job.output) in photos:
            raise OptionError(
                f"{job.output} is, or may be, one of the photos themselves, which are never "
                "replaced: choose another --output."
            )
    return jobs


def _named(photos: Sequence[Job], output: Path, report: Report) -> list[Job]:
    """From each photo's name below the output folder to its output, in the same order."""
    wanted = [output / (job.output if job.error else result_name(job.output)) for job in photos]
    outputs: dict[int, Path] = {}
    taken: set[str] = set()
    for i, job in enumerate(photos):
        former = report.result_of(job.photo)
        if former and _numbers(wanted[i], former):
            name = wanted[i].with_name(former.name)
            if _key(name) not in taken:
                outputs[i] = name
                taken.add(_key(name))
    # Names of their own go first: a.jpg has its own, whether or not there is an a.heic.
    rest = [i for i in range(len(photos)) if i not in outputs]
    rest.sort(key=lambda i: wanted[i].name != photos[i].photo.name)
    numbers: dict[Path, Iterator[Path]] = {}
    for i in rest:
        for name in numbers.setdefault(wanted[i], _names(wanted[i])):
            if _key(name) not in taken and not report.others(name, photos[i].photo):
                outputs[i] = name
                taken.add(_key(name))
                break
    return [Job(job.photo, outputs[i], job.error) for i, job in enumerate(photos)]


def _names(name: Path) -> Iterator[Path]:
    yield name
    for number in itertools.count(2):
        yield name.with_name(f"{name.stem}-{number}{name.suffix}")


def _numbers(name: Path, former: Path) -> bool:
    """Whether a former result has the name, or the name with a number."""
    pattern = re.escape(name.stem) + r"(-\d+)?" + re.escape(name.suffix)
    return place_of(name).parent == former.parent and bool(re.fullmatch(pattern, former.name))


def _key(name: Path) -> str:
    """The same for names that are one where capitals, or ways to write accents, do not count."""
    return unicodedata.normalize("NFC", str(name)).casefold()
