"""Clips for training: frames of one scene, from films or out of single photos.

A clip travels where photos do (`batches.PhotoBatches`, streams, exact resume): as a film strip, one
JPEG of its frames below each other that says so in its comment. The view `Moving` takes the frames
out of a strip, and makes a clip of a photo by moving over it.
"""

import io
import logging
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from colorhub import footage
from colorhub.data import Row, Rows, crop, decode_row, guarded, open_rows
from colorhub.errors import DataError, OptionError, PhotoError
from colorhub.motion import flicker

LENGTH = 48  # frames of a strip at the most
SIDE = 256  # pixels of a strip's frames, their short side, at the most
_COMMENT = re.compile(rb"colorhub: (\d+) frames")
_STRIPS = datasets.Features({"image": datasets.Image(decode=False)})

Scene = tuple[str, list[Image.Image]]
"""The name of a clip, and frames of it that follow each other."""

__all__ = ["Moving", "Source", "flicker", "frames_of", "mixed", "strip_of"]


@dataclass(frozen=True)
class Source:
    """Clips of a data set of frames, and of a folder of films.

    The data set has a column of pictures and one that names each frame's clip, and is sorted by
    clip and frame. What holds fewer than `frames` frames, and films that cannot be read, are
    skipped with a warning that names them.
    """

    dataset: str | None
    folder: str | None
    frames: int = 16
    hold_back: tuple[str, ...] = ()  # names of clips, and of films without their endings
    split: str = "train"
    image_column: str | None = None
    video_column: str = "video"
    streaming: bool = False

    def rows(self) -> Rows | None:
        """Strips of all clips but those held back; None if no source is given.

        Raises DataError if there is no clip, OptionError if one to hold back is not there.
        """
        parts, names = [], set()
        if self.dataset:
            frames = self._table()
            if not self.streaming:
                names |= set(self._check(frames[self.video_column][:]))
            parts.append(self._strips(_from_table, {"rows": frames, "column": self.video_column}))
        if self.folder:
            found = self._films()
            names |= {film.name for film in found}
            kept = [film for film in found if film.name not in self.hold_back]
            if kept:
                parts.append(self._strips(_from_films, {"found": kept}))
        unknown = set(self.hold_back) - names
        if unknown and not (self.streaming and self.dataset):  # whose names are not known yet
            raise OptionError(
                f"--hold_back {' '.join(sorted(unknown))}: there is no such clip. There are: "
                f"{', '.join(sorted(names)) or 'none'}."
            )
        if names and not names - set(self.hold_back):
            raise DataError("All clips are held back: none is left to train on.")
        return datasets.concatenate_datasets(parts) if parts else None

    def held_back(self) -> Iterator[Scene]:
        """The clips held back, frames at their stored size, at most `LENGTH` at a time."""
        if self.dataset:
            for name, frames in _scenes(self._table(), self.video_column):
                if name in self.hold_back:
                    yield name, frames
        if self.folder:
            kept = [film for film in self._films() if film.name in self.hold_back]
            yield from _film_scenes(kept)

    def _strips(self, make: Any, arguments: dict[str, Any]) -> Rows:
        arguments |= {"least": self.frames, "hold_back": self.hold_back}
        kind = datasets.IterableDataset if self.streaming else datasets.Dataset
        return kind.from_generator(make, features=_STRIPS, gen_kwargs=arguments)

    def _table(self) -> Rows:
        return open_rows(
            self.dataset,
            split=self.split,
            image_column=self.image_column,
            columns=(self.video_column,),
            streaming=self.streaming,
        )

    def _check(self, column: Sequence[str]) -> list[str]:
        """Names of the clips that are long enough."""
        lengths = {name: sum(1 for _ in group) for name, group in groupby(column)}
        for name, length in lengths.items():
            if length < self.frames:
                _warn_short(name, length, self.frames)
        return self._some([name for name, n in lengths.items() if n >= self.frames], self.dataset)

    def _films(self) -> list[footage.Film]:
        found = []
        for path in footage.paths_in(str(self.folder)):
            try:
                film = footage.probe(path, self.frames)
            except DataError as error:
                logging.getLogger(__name__).warning("skipped: %s", error)
                continue
            if film.frames < self.frames:
                _warn_short(path.name, film.frames, self.frames)
            else:
                found.append(film)
        self._some([film.name for film in found], self.folder)
        return found

    def _some(self, names: list[str], place: str | None) -> list[str]:
        if not names:
            raise DataError(
                f"{Path(str(place)).name} holds no clip of {self.frames} frames that can be read: "
                "give longer ones, or fewer --clip_frames."
            )
        return names


@dataclass(frozen=True)
class Moving:
    """A view for `batches.PhotoBatches`: clips (R, R, 3 * frames), of strips and of photos.

    A strip gives as many frames as wanted, from anywhere, all cropped and mirrored alike. Over a
    photo a window moves at even speed, and grows or shrinks.
    """

    frames: int = 16
    pan: float = 0.3  # way of the window along each side, as a share of it, at the most
    zoom: float = 0.2  # share by which the window grows or shrinks, at the most

    def __post_init__(self) -> None:
        if self.frames < 1 or self.pan < 0 or not 0 <= self.zoom < 1:
            raise OptionError(
                f"--clip_frames is {self.frames}, --pan {self.pan}, --zoom {self.zoom}: give 1 "
                "frame or more, a pan of 0 or more, and a zoom from 0 to below 1."
            )

    @property
    def channels(self) -> int:
        """Of what is made: three for each frame."""
        return 3 * self.frames

    def __call__(self, photo: Image.Image, resolution: int, draw: random.Random) -> np.ndarray:
        """PIL RGB, a strip or not, to (R, R, 3 * frames) RGB of one frame after another."""
        frames = frames_of(photo)
        if frames is None:
            clip = self.over(photo, resolution, draw)
        else:
            first = draw.randint(0, max(0, len(frames) - self.frames))
            key = draw.random()
            chosen = frames[first : first + self.frames]
            clip = [crop(frame, resolution, random.Random(key)) for frame in chosen]
        return np.concatenate([np.asarray(frame) for frame in clip], axis=2)

    def over(self, photo: Image.Image, resolution: int, draw: random.Random) -> list[Image.Image]:
        """Frames of a window that moves over a photo."""
        side = min(photo.size) / draw.uniform(1, 1.25)
        other = min(side * draw.uniform(1 - self.zoom, 1 + self.zoom), min(photo.size))
        start = [draw.uniform(0, length - side) for length in photo.size]
        stop = [
            min(max(place + side * draw.uniform(-self.pan, self.pan), 0), length - other)
            for place, length in zip(start, photo.size, strict=True)
        ]
        flip = draw.random() < 0.5
        frames = []
        for time in np.linspace(0, 1, self.frames):
            left, top, size = (
                before + time * (after - before)
                for before, after in zip((*start, side), (*stop, other), strict=True)
            )
            box = (left, top, min(left + size, photo.width), min(top + size, photo.height))
            frame = photo.resize((resolution, resolution), Image.Resampling.BICUBIC, box=box)
            frames.append(frame.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else frame)
        return frames


def mixed(photos: Rows | None, clips: Rows | None, *, share: float, seed: int) -> Rows:
    """Photos and clips in random order, the latter with a share of the rows.

    Every row comes once a pass at least: those of which there are too few come again. One of both
    may be missing.
    """
    if photos is None or clips is None:
        found = photos if clips is None else clips
        assert found is not None
        return found
    return datasets.interleave_datasets(
        [photos, clips],
        probabilities=[1 - share, share],
        seed=seed,
        stopping_strategy="all_exhausted",
    )


def strip_of(name: str, frames: Sequence[Image.Image]) -> Row:
    """The row of a clip: its frames, all of one size, below each other."""
    # Multiples of 8, so that frames end where they should in a JPEG decoded at a smaller size.
    scale = min(1.0, SIDE / min(frames[0].size))
    width, height = (max(8, round(side * scale / 8) * 8) for side in frames[0].size)
    strip = Image.new("RGB", (width, height * len(frames)))
    for place, frame in enumerate(frames):
        small = frame.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        strip.paste(small, (0, place * height))
    file = io.BytesIO()
    comment = b"colorhub: %d frames" % len(frames)
    strip.save(file, "JPEG", quality=95, subsampling=0, comment=comment)
    return {"image": {"bytes": file.getvalue(), "path": name}}


def frames_of(photo: Image.Image) -> list[Image.Image] | None:
    """The frames of a strip; None for any other picture."""
    match = _COMMENT.fullmatch(bytes(photo.info.get("comment", b"")))
    if match is None:
        return None
    count = int(match[1])
    height = photo.height // count
    return [photo.crop((0, i * height, photo.width, (i + 1) * height)) for i in range(count)]


def _from_table(
    rows: Iterable[Row], column: str, least: int, hold_back: tuple[str, ...]
) -> Iterator[Row]:
    for name, frames in _scenes(rows, column):
        if name not in hold_back and len(frames) >= least:
            yield strip_of(name, frames)


def _from_films(found: list[footage.Film], least: int, hold_back: tuple[str, ...]) -> Iterator[Row]:
    for name, frames in _film_scenes(found):
        if len(frames) >= least:
            yield strip_of(name, frames)


def _scenes(rows: Iterable[Row], column: str) -> Iterator[Scene]:
    """Neighbouring rows of the same clip; a frame that is broken or of another size ends one."""
    for name, group in groupby(guarded(rows), key=lambda row: row[column]):
        frames: list[Image.Image] = []
        for row in group:
            try:
                frame = decode_row(row)
            except PhotoError as error:
                logging.getLogger(__name__).warning("skipped in clip %s: %s", name, error)
                frame = None
            if frames and (frame is None or frame.size != frames[0].size or len(frames) == LENGTH):
                yield str(name), frames
                frames = []
            frames += [] if frame is None else [frame]
        if frames:
            yield str(name), frames


def _film_scenes(found: list[footage.Film]) -> Iterator[Scene]:
    for film in found:
        for frames in footage.scenes(film, length=LENGTH, side=SIDE):
            yield film.name, frames


def _warn_short(name: str, frames: int, wanted: int) -> None:
    logging.getLogger(__name__).warning(
        "skipped: %s has %d frames, fewer than the %d of --clip_frames", name, frames, wanted
    )
