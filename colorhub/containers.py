"""A film's file, opened with PyAV and decoded; what is wrong with it is told in one sentence."""

import errno
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colorhub.errors import FilmError, OptionError

if TYPE_CHECKING:
    from av import VideoFrame

_SEEK_BEFORE = 2  # seconds: an index tells when packets are decoded, not when frames are shown
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk says, not a film


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
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A film's container and the stream of its picture. Raises FilmError."""
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


class Decoding:
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
        begun = False  # a recording may begin between two key frames
        packets = self._container.demux(self._stream, *self._container.streams.audio)
        while (packet := self._next(packets)) is not None:
            if packet.dts is not None:
                until = float((packet.dts + (packet.duration or 0)) * packet.time_base)
                self._until = max(self._until, until)
            if packet.stream is not self._stream:
                continue
            self._count += packet.size > 0
            try:
                for frame in packet.decode():
                    begun = True
                    yield frame
            except av.error.EOFError:
                return
            except av.FFmpegError:
                if begun and not self._salvage:
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
