"""Films to take clips from: those in a folder, and scenes of them, decoded with PyAV."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from colorhub.errors import DataError, OptionError

EXTENSIONS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ogv")
SCENES = 8  # taken from a film, evenly spread over it


@dataclass(frozen=True)
class Film:
    """A film that can be read."""

    path: str
    name: str  # without its ending
    frames: int  # that could be read at its beginning, up to as many as were asked for
    seconds: float | None  # None if the file does not tell
    changed: int  # when, so that what was made of another file of this name is not taken for it


def paths_in(folder: str | os.PathLike[str]) -> list[Path]:
    """The films in a folder and those below it, sorted. Raises DataError if there is none."""
    found = sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in EXTENSIONS and path.is_file()
    )
    if not found:
        raise DataError(
            f"{Path(folder).name} holds no films: give a folder with {', '.join(EXTENSIONS)}."
        )
    return found


def probe(path: Path, frames: int) -> Film:
    """Read a film's first frames. Raises DataError if it cannot be read."""
    with _opened(path) as container:
        count = sum(1 for _ in islice(_decoded(container, path), frames))
        stream = container.streams.video[0]
        seconds = float(container.duration / 1e6) if container.duration else None
        if stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
    return Film(str(path), path.stem, count, seconds, path.stat().st_mtime_ns)


def scenes(film: Film, *, length: int, side: int) -> Iterator[list[Image.Image]]:
    """Frames that follow each other, upright, at `SCENES` places of a film or wherever it is short.

    Up to `length` at a time, their short side brought down to `side` pixels.
    """
    with _opened(Path(film.path)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 25)
        lasts = length / rate
        places = min(SCENES, max(1, math.ceil((film.seconds or 0) / lasts)))
        begun = set()
        for place in range(places):
            start = place * (film.seconds or 0) / places
            scene, first = [], None
            try:
                for frame in islice(_decoded(container, Path(film.path), start), length):
                    first = frame.pts if first is None else first
                    scene.append(_upright(frame, side))
            except DataError:
                return  # broken from here on
            if scene and first not in begun:
                yield scene
            begun.add(first)


def _opened(path: Path) -> Any:
    try:
        import av
    except ImportError:
        raise OptionError("Films need PyAV: pip install 'colorhub[video]'") from None
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path.name} cannot be read as a film ({error.strerror}).") from error
    if not container.streams.video:
        container.close()
        raise DataError(f"{path.name} holds no pictures that move.")
    return container


def _decoded(container: Any, path: Path, start: float = 0) -> Iterator[Any]:
    """Frames from the last key frame on that comes before `start`, in seconds."""
    import av

    try:
        if start:
            container.seek(int(start * 1e6))
        yield from container.decode(video=0)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path.name} is damaged ({error.strerror}).") from error


def _upright(frame: Any, side: int) -> Image.Image:
    """A decoded frame as PIL RGB, turned as its film says."""
    scale = min(1.0, side / min(frame.width, frame.height))
    size = {
        "width": max(2, round(frame.width * scale)),
        "height": max(2, round(frame.height * scale)),
    }
    levels = frame.to_ndarray(format="rgb24", **size)
    return Image.fromarray(np.rot90(levels, getattr(frame, "rotation", 0) // 90).copy())
