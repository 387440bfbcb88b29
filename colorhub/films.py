"""Films read: one frame after the other, upright, in sRGB, each with its own time.

PyAV decodes. Of a film no more is in memory than the few frames that its codec needs.
"""

import errno
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from colorhub.errors import FilmError, OptionError
from colorhub.originals import Original

if TYPE_CHECKING:
    import av
    from av import VideoFrame

_SEEK_BEFORE = 2  # seconds: an index tells when packets are decoded, not when frames are shown
_HD = 720  # lines from which on an untagged film is taken for BT.709, below for BT.601
_BT709, _UNTAGGED, _BT601 = 1, 2, 5
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk says, not a film
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
    with _opened(path) as (container, stream):
        first = next(_Decoding(container, stream, True).frames(), None)
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


def need_av() -> None:
    """Raise OptionError if PyAV is not installed."""
    if importlib.util.find_spec("av") is None:
        raise OptionError("Films need PyAV: pip install 'colorhub[video]'")


@contextmanager
def explaining(path: Path, remedy: str = "") -> Iterator[None]:
    """Turn what PyAV raises of a file into a FilmError, or of a full disk into an OSError."""
    import av

    try:
        yield
    except FileNotFoundError:
        raise FilmError(f"{path}: there is no such file.") from None
    except (PermissionError, IsADirectoryError) as error:
        raise FilmError(f"{path} cannot be read ({error.strerror}).") from None
    except (av.FFmpegError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if (number := getattr(error, "errno", None)) in _FULL:
            raise OSError(number, reason) from error
        raise FilmError(
            f"{path} is damaged, cut off or no film ({reason}): take another copy{remedy}."
        ) from error


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[Any, Any]]":
    import av

    with explaining(path):
        container = av.open(os.fspath(path), metadata_errors="replace")
    salvage = ", or give --salvage to colour it as far as it goes"
    with explaining(path, salvage), container:
        covers = av.stream.Disposition.attached_pic
        streams = [each for each in container.streams.video if not each.disposition & covers]
        if not streams:
            found = "only sound" if container.streams.audio else "no picture"
            raise FilmError(f"{path} is no film: it holds {found}.")
        if streams[0].codec_context is None:
            raise FilmError(
                f"{path}: its codec is not known here. Convert it to H.264 with another program."
            )
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


class _Decoding:
    """The frames of an opened film; with `salvage` what cannot be decoded is passed over."""

    def __init__(self, container: Any, stream: Any, salvage: bool) -> None:
        self._container, self._stream, self._salvage = container, stream, salvage
        self._count = 0  # packets of the picture
        self._until = 0.0  # seconds at which the last packet, of picture or sound, ends
        self._whole = False  # whether it began at the beginning

    def frames(self, near: int | None = None) -> "Iterator[VideoFrame]":
        """All, or those from some seconds before `near`."""
        import av

        self._whole = near is None
        if near is not None:
            place = near - round(_SEEK_BEFORE / self._stream.time_base)
            self._container.seek(place, stream=self._stream, backward=True)
        packets = self._container.demux(self._stream, *self._container.streams.audio)
        while (packet := self._next(packets)) is not None:
            if packet.dts is not None:
                until = float((packet.dts + (packet.duration or 0)) * packet.time_base)
                self._until = max(self._until, until)
            if packet.stream is not self._stream:
                continue
            self._count += packet.size > 0
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except av.FFmpegError:
                if not self._salvage:
                    raise

    def _next(self, packets: Iterator[Any]) -> Any:
        """The next packet; None at the end, and where a film to be salvaged breaks off."""
        import av

        try:
            return next(packets, None)
        except av.FFmpegError:
            if not self._salvage:
                raise
            return None

    def check_end(self, path: Path) -> None:
        """Raise FilmError if there was less than the file's header promised."""
        promised = ((self._container.duration or 0) + (self._container.start_time or 0)) / 1e6
        few = self._whole and self._count < 0.95 * self._stream.frames - 2
        if few or promised - self._until > max(1.0, 0.002 * promised):
            raise FilmError(
                f"{path} is cut off at {self._until:.0f} of {promised:.0f} s: take another copy, "
                "or give --salvage to keep what is there."
            )


def _timed(film: Film, near: int | None, salvage: bool) -> "Iterator[tuple[int, VideoFrame]]":
    """Frames and their times, which only grow; from shortly before `near`, if it is given."""
    last = None
    with _opened(film.path) as (container, stream):
        decoding = _Decoding(container, stream, salvage)
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
    if first.color_trc in _HDR:
        found.append(
            f"its high dynamic range ({_HDR[first.color_trc]}) is not honoured: it is flat"
        )
    if first.interlaced_frame:
        found.append("it is interlaced, and stays so: deinterlace it first")
    others = [each.type for each in container.streams if each.type != "audio" and each != stream]
    if others:
        found.append(f"left out: {', '.join(sorted(set(others)))} streams")
    return tuple(found)
