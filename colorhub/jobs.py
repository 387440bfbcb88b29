"""Which photos a command line means, and where their results go."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from colorhub.errors import OptionError
from colorhub.photos import EXTENSIONS

# What takes the place of endings whose format we do not write, or which stand for grey.
_INSTEAD = {".heic": ".jpg", ".heif": ".jpg", ".pgm": ".ppm", ".pbm": ".ppm", ".pnm": ".ppm"}
_INSTEAD |= {".gif": ".png", ".jpe": ".jpg", ".jfif": ".jpg"}


@dataclass(frozen=True)
class Job:
    """A photo and the file for its colours."""

    photo: Path
    output: Path


def jobs_for(
    inputs: Sequence[Path], output: Path, *, recursive: bool, say: Callable[[str], None]
) -> list[Job]:
    """Photos and folders of photos, and a file for one or a folder for several results, to jobs.

    Below the output folder results lie as the photos lie below theirs, and have their names: with
    another ending where the format is not written, and with a number where the name is taken. What
    is passed over is said. Raises OptionError if inputs and output do not go together.
    """
    if not inputs:
        raise OptionError("Name at least one photo or folder.")
    if len(inputs) == 1 and not inputs[0].is_dir() and not output.is_dir():
        if output.suffix.lower() not in EXTENSIONS:
            raise OptionError(f"--output {output}: end it in {', '.join(EXTENSIONS)}.")
        return [Job(inputs[0], output)]
    if output.is_file():
        raise OptionError(f"--output {output} is a file: several photos need a folder.")
    taken: set[str] = set()
    photos = [found for place in inputs for found in _photos(place, output, recursive, say)]
    return [Job(photo, output / _free(result_name(name), taken)) for photo, name in photos]


def result_name(photo: Path) -> Path:
    """The name of a photo's result: its own, with another ending if it cannot hold the colours."""
    suffix = photo.suffix.lower()
    if suffix in _INSTEAD:
        return photo.with_suffix(_INSTEAD[suffix])
    return photo if suffix in EXTENSIONS else photo.with_name(photo.name + ".png")


def _photos(
    place: Path, output: Path, recursive: bool, say: Callable[[str], None]
) -> Iterator[tuple[Path, Path]]:
    """(photo, its name below the output folder)"""
    if not place.is_dir():
        yield place, Path(place.name)
        return
    files = sorted(path for path in place.glob("**/*" if recursive else "*"))
    results = output.resolve()  # its own results are no photos to colour
    files = [path for path in files if path.is_file() and results not in path.resolve().parents]
    photos = [path for path in files if path.suffix.lower() in (*EXTENSIONS, *_INSTEAD)]
    if others := len(files) - len(photos):
        say(f"{place}: {others} files passed over that are no photos by their names.")
    if not photos:
        say(f"{place}: no photos in this folder.")
    yield from ((path, path.relative_to(place)) for path in photos)


def _free(name: Path, taken: set[str]) -> Path:
    """The name, numbered if it is taken, or would be where capitals do not count."""
    free, number = name, 1
    while str(free).lower() in taken:
        number += 1
        free = name.with_name(f"{name.stem}-{number}{name.suffix}")
    taken.add(str(free).lower())
    return free
