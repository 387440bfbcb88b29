"""Where clips for training come from: data sets of frames, folders of films, among photos."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from colorhub import footage
from colorhub.data import Row, Rows, decode_row, guarded, open_rows
from colorhub.errors import DataError, OptionError, PhotoError
from colorhub.strips import SIDE, strip_of

LENGTH = 48  # frames of a strip at the most
_STRIPS = datasets.Features({"image": datasets.Image(decode=False)})

Scene = tuple[str, list[Image.Image]]
"""The name of a clip, and frames of it that follow each other."""


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
        table = self._table() if self.dataset else None
        found = self._films() if self.folder else []
        names = [film.name for film in found]
        if table is not None and not self.streaming:
            names += self._check(table[self.video_column][:])
        known = not (self.streaming and self.dataset)  # a stream's names come with its rows
        if known and (unknown := set(self.hold_back) - set(names)):
            raise OptionError(
                f"--hold_back {' '.join(sorted(unknown))}: there is no such clip. There are: "
                f"{', '.join(sorted(names)) or 'none'}."
            )
        if known and names and set(names) == set(self.hold_back):
            raise DataError("All clips are held back: none is left to train on.")
        parts = []
        if table is not None:
            told = {"rows": table, "column": self.video_column, "hold_back": self.hold_back}
            parts.append(self._strips(_from_table, told | {"warns": self.streaming}))
        if kept := [film for film in found if film.name not in self.hold_back]:
            parts.append(self._strips(_from_films, {"found": kept}))
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
        arguments |= {"least": self.frames}
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
        lengths = {str(name): sum(1 for _ in group) for name, group in groupby(column)}
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


def _from_table(
    rows: Iterable[Row], column: str, hold_back: tuple[str, ...], least: int, warns: bool
) -> Iterator[Row]:
    last = None
    for name, frames in _scenes(rows, column):
        if name in hold_back:
            continue
        if len(frames) >= least:
            yield strip_of(name, frames)
        elif warns and name != last:  # else it is the rest of a longer clip
            _warn_short(name, len(frames), least)
        last = name


def _from_films(found: list[footage.Film], least: int) -> Iterator[Row]:
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
