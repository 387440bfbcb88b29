"""Films read: one frame after the other, upright, in sRGB, each with its own time.

Of a film no more is in memory than the few frames that its codec needs.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from colorhub.containers import Decoding, need_av, opened
from colorhub.errors import FilmError
from colorhub.originals import Original

if TYPE_CHECKING:
    import av
    from av import VideoFrame

_HD = 720  # lines from which on an untagged film is taken for BT.709, below for BT.601
_BT709, _UNTAGGED, _BT601 = 1, 2, 5
_HDR = {16: "PQ", 18: "HLG"}
_CLOCKS = ("mpegts", "mpeg")  # whose times begin anywhere, such as at the hour of the broadcast


@dataclass(frozen=True)
class Film:
    """What is known of a film before it is coloured; sizes are upright."""

    path: Path
    width: int
    height: int
    aspect: Fraction  # of a pixel, width over height
    time_base: Fraction  # seconds that a step of time is
    rate: Fraction  # frames a second, on average
    frames: int  # about; 0 if the file does not say
    seconds: float  # about
    end: int | None  # the time at which the picture ends, if the file is sure of it
    start: Fraction  # seconds that are taken off all times
    matrix: tuple[int, int, int, int]  # how frames are turned: x to x, x to y, y to x, y to y
    warnings: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """How long a frame lasts on average, in steps of time."""
        return max(1, round(1 / (self.rate * self.time_base)))


@dataclass(frozen=True)
class Frame:
    """A frame, when it is shown and how long, in steps of the film's time."""

    pts: int
    duration: int
    picture: Original


def open_film(path: str | os.PathLike[str]) -> Film:
    """What a film is, by its header and its first frame.

    Raises FilmError if it cannot be read or has no picture, OptionError if PyAV is not installed.
    """
    need_av()
    path = Path(path)
    with opened(path) as (container, stream):
        first = next(Decoding(container, stream, True).frames(), None)
        if first is None:
            raise FilmError(f"{path} has no frames that can be read: it is empty or damaged.")
        matrix = _matrix(first)
        width, height = first.width, first.height
        if _lies(matrix):
            width, height = height, width
        aspect = stream.sample_aspect_ratio or Fraction(1)
        aspect = aspect if aspect > 0 else Fraction(1)
        if _lies(matrix):
            aspect = 1 / aspect
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        seconds = float((stream.duration or 0) * stream.time_base)
        seconds = seconds or (container.duration or 0) / 1e6
        return Film(
            path=path,
            width=width,
            height=height,
            aspect=aspect,
            time_base=stream.time_base,
            rate=rate,
            frames=stream.frames or round(seconds * rate),
            seconds=seconds,
            end=(stream.start_time or 0) + stream.duration if stream.duration else None,
            start=_start(container, stream),
            matrix=matrix,
            warnings=_warnings(container, stream, first),
        )


def frames(film: Film, *, after: int | None = None, salvage: bool = False) -> Iterator[Frame]:
    """A film's frames in the order of time, those later than `after`, the time of one of them.

    Raises FilmError where it is damaged or ends too early; with `salvage` it just ends there, and
    what cannot be decoded before is left out.
    """
    if after is None:
        for pts, frame in _timed(film, None, salvage):
            yield _frame(film, pts, frame)
        return
    for near in (after, None):  # by the index; if that does not lead there, from the beginning
        found = False
        try:
            for pts, frame in _timed(film, near, salvage):
                if found:
                    yield _frame(film, pts, frame)
                elif pts >= after:
                    found = pts == after
                    if not found:
                        break
        except (FilmError, OverflowError):
            if found or near is None:
                raise
        if found:
            return
    raise FilmError(f"{film.path}: the place where the last run stopped cannot be found again.")


def _timed(film: Film, near: int | None, salvage: bool) -> "Iterator[tuple[int, VideoFrame]]":
    """Frames and their times, which only grow; from shortly before `near`, if it is given."""
    last = None
    with opened(film.path) as (container, stream):
        decoding = Decoding(container, stream, salvage)
        for frame in decoding.frames(near):
            pts = frame.pts if frame.pts is not None else frame.dts
            if pts is None:
                if near is not None and last is None:
                    return  # its times are counted from the beginning
                pts = 0 if last is None else last + film.step
            last = pts if last is None else max(pts, last + 1)
            yield last, frame
        if not salvage:
            decoding.check_end(film.path)


def _frame(film: Film, pts: int, frame: "VideoFrame") -> Frame:
    if frame.colorspace == _UNTAGGED:
        frame.colorspace = _BT709 if min(frame.height, frame.width) >= _HD else _BT601
    size = (film.height, film.width) if _lies(film.matrix) else (film.width, film.height)
    if (frame.width, frame.height) != size:  # some broadcasts change in the middle
        frame = frame.reformat(*size)
    levels = _turned(frame.to_ndarray(format="rgb24"), film.matrix)
    planes = levels.transpose(2, 0, 1)
    grey = np.array_equal(planes[0], planes[1]) and np.array_equal(planes[0], planes[2])
    planes = np.ascontiguousarray(planes[:1] if grey else planes)
    return Frame(pts, frame.duration or film.step, Original(planes))


def _matrix(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """How a frame is to be turned, as phones write it; asked once, for each time leaks memory."""
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].tolist()
    return (a, b, c, d) if a or b or c or d else (1, 0, 0, 1)


def _lies(matrix: tuple[int, int, int, int]) -> bool:
    """Whether width and height change places."""
    return abs(matrix[1]) > abs(matrix[0])


def _turned(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """A picture (H, W, C) as it is to be shown, to the nearest quarter turn."""
    across, b, c, down = matrix
    if _lies(matrix):
        picture, down, across = picture.swapaxes(0, 1), b, c
    return picture[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _start(container: Any, stream: Any) -> Fraction:
    """When the first of picture and sound begins, in seconds, where the clock began before."""
    streams = (stream, *container.streams.audio) if container.format.name in _CLOCKS else ()
    starts = [each.start_time * each.time_base for each in streams if each.start_time is not None]
    return min(starts, default=Fraction(0))


def _warnings(container: "av.container.InputContainer", stream: Any, first: Any) -> tuple[str, ...]:
    found = []
    bits = max((each.bits for each in first.format.components), default=8)
    if bits > 8:
        found.append(f"its {bits} bits a channel come out as 8")
    if (curve := _HDR.get(stream.codec_context.color_trc)) is not None:
        found.append(f"its high dynamic range ({curve}) is not honoured: it looks flat")
    if first.interlaced_frame:
        found.append("it is interlaced, and stays so: deinterlace it first")
    others = [each.type for each in container.streams if each.type != "audio" and each != stream]
    if others:
        found.append(f"left out: {', '.join(sorted(set(others)))} streams")
    return tuple(found)
