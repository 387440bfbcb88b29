"""Films written: segments of coloured frames, joined with the sound that the film came with.

A segment is a NUT file, which keeps any times as they are. All are encoded in the same way, each
begins with a key frame, and no frame refers to a later one, so that they can be joined as they are.
"""

import heapq
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from colorhub.containers import explaining
from colorhub.errors import FilmError
from colorhub.films import Film

ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Of films that can be written."""
_MOVIES = (".mp4", ".m4v", ".mov")
_CLEARLY = {"crf": "17", "preset": "veryfast", "bf": "0"}
_WEB = {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "5", "row-mt": "1"}
_WEB |= {"lag-in-frames": "0", "auto-alt-ref": "0"}
_LIMITED, _BT709, _BT601 = 1, 1, 6  # range and matrix, as H.264 numbers them
_MOST = 2**31 - 1


class Segment:
    """A run of coloured frames that is being encoded; as a context it is closed, or broken off.

    H.264, for .webm VP9, of 8 bits, BT.709 or for few lines BT.601, limited range. Colour is at
    half resolution; of odd sizes, which H.264 does not have so, it is at full resolution.
    """

    def __init__(self, path: Path, film: Film, ending: str) -> None:
        import av

        self.path, self.frames = path, 0
        self._container = av.open(os.fspath(path), "w", format="nut")
        web = ending == ".webm"
        self._matrix = _BT709 if min(film.width, film.height) >= 720 else _BT601
        odd = film.width % 2 or film.height % 2
        self._stream: Any = self._container.add_stream(
            "libvpx-vp9" if web else "libx264", film.rate, options=dict(_WEB if web else _CLEARLY)
        )
        context = self._stream.codec_context
        context.width, context.height = film.width, film.height
        context.pix_fmt = "yuv444p" if odd and not web else "yuv420p"
        context.time_base = self._stream.time_base = film.time_base
        context.sample_aspect_ratio = film.aspect
        context.color_range, context.colorspace = _LIMITED, self._matrix
        context.color_primaries = context.color_trc = self._matrix

    def write(self, pts: int, levels: np.ndarray) -> None:
        """Add a frame: sRGB levels (3, H, W) uint8."""
        import av

        picture = np.ascontiguousarray(levels.transpose(1, 2, 0))
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format=self._stream.codec_context.pix_fmt,
            dst_colorspace=self._matrix,
            dst_color_range=_LIMITED,
        )
        frame.pts, frame.time_base = pts, self._stream.codec_context.time_base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def __enter__(self) -> "Segment":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def join(
    film: Film, segments: Sequence[Path], output: Path, ending: str, *, last: int, note: str = ""
) -> tuple[str, ...]:
    """Write the segments' frames and the film's sound into one file; warnings.

    Nothing is encoded again but sound that the container cannot hold. `last` is how long the last
    frame lasts; `note` goes into the file's comment.
    """
    import av

    name = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}.get(ending, "webm")
    with ExitStack() as stack:
        stack.enter_context(explaining(film.path))
        first = stack.enter_context(av.open(os.fspath(segments[0])))
        source = stack.enter_context(av.open(os.fspath(film.path), metadata_errors="replace"))
        result = stack.enter_context(
            av.open(os.fspath(output), "w", format=name, options=_options(film, ending))
        )
        result.metadata.update(_told(source.metadata, note))
        video = result.add_stream_from_template(first.streams.video[0])
        video.time_base, video.codec_context.framerate = film.time_base, film.rate
        sound = _Sound(film, source, result, name)
        pictures = _pictures(film, segments, video, last)
        for packet in heapq.merge(pictures, sound.packets(), key=_moment):
            result.mux(packet)
    return tuple(sound.warnings)


def _options(film: Film, ending: str) -> dict[str, str]:
    if ending not in _MOVIES:
        return {}
    scale = film.time_base.denominator  # in which the time of the first frame is written
    return {"movflags": "+faststart", "movie_timescale": str(min(scale, _MOST))}


def _told(metadata: dict[str, str], note: str) -> dict[str, str]:
    brands = ("major_brand", "minor_version", "compatible_brands", "encoder")
    kept = {key: value for key, value in metadata.items() if key.lower() not in brands}
    return kept | ({"comment": note} if note else {})


def _pictures(film: Film, segments: Iterable[Path], target: Any, last: int) -> Iterator[Any]:
    """Packets of all segments, each as long as it is to the next."""
    import av

    def every() -> Iterator[Any]:
        for path in segments:
            with av.open(os.fspath(path)) as container:
                for packet in container.demux(container.streams.video[0]):
                    if packet.size:  # the last is empty
                        yield packet

    for packet, after in itertools.pairwise(itertools.chain(every(), [None])):
        offset = round(film.start / packet.time_base)  # NUT has finer steps than the film
        duration = round(last * film.time_base / packet.time_base)
        packet.duration = after.pts - packet.pts if after else duration
        packet.pts = packet.dts = packet.pts - offset
        packet.stream = target
        yield packet


class _Sound:
    """A film's sound on its way into another container: copied, or encoded again."""

    def __init__(self, film: Film, source: Any, result: Any, name: str) -> None:
        self._film, self._source = film, source
        self._before = name in ("mp4", "mov")  # whether there can be anything before time 0
        self._copied: dict[int, Any] = {}
        self._encoded: dict[int, Any] = {}
        self.warnings: list[str] = []
        for stream in source.streams.audio:
            if stream.codec_context is None:
                self.warnings.append("its sound is in a codec that is not known here: left out")
            elif _takes(name, stream):
                self._copied[stream.index] = result.add_stream_from_template(stream)
            else:
                self._encode(stream, result, name)

    def _encode(self, stream: Any, result: Any, name: str) -> None:
        import av

        codec = "libopus" if name == "webm" else "aac"
        how = {"rate": 48000 if name == "webm" else stream.rate, "layout": stream.layout.name}
        known = stream.codec_context.name
        try:
            with av.open(io.BytesIO(), "w", format=name) as trial:
                trial.add_stream(codec, **how)
                trial.start_encoding()
        except (av.FFmpegError, ValueError):
            self.warnings.append(f"its sound ({known}) does not go into {name}: left out")
            return
        self._encoded[stream.index] = result.add_stream(codec, **how)
        self.warnings.append(f"its sound ({known}) does not go into {name}: encoded as {codec}")

    def packets(self) -> Iterator[Any]:
        for packet in self._packets():
            index = packet.stream.index
            if index in self._encoded:
                yield from self._again(packet, self._encoded[index])
            elif packet.dts is not None:
                offset = round(self._film.start / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts - offset
                packet.dts -= offset
                # What ends before time 0 is never heard, and would delay the picture.
                if self._before or packet.dts + (packet.duration or 1) > 0:
                    packet.stream = self._copied[index]
                    yield packet
        for target in self._encoded.values():
            yield from target.encode(None)

    def _packets(self) -> Iterator[Any]:
        """Those of the film's sound, as far as they can be read."""
        import av

        streams = [self._source.streams[i] for i in (*self._copied, *self._encoded)]
        try:
            yield from self._source.demux(*streams) if streams else ()
        except av.FFmpegError:
            self.warnings.append("its sound breaks off")

    def _again(self, packet: Any, target: Any) -> Iterator[Any]:
        import av

        frames: list[Any] = []
        with suppress(av.FFmpegError):  # a gap where a packet is damaged
            frames = packet.decode()
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(self._film.start / frame.time_base)
            yield from target.encode(frame)


def _takes(name: str, stream: Any) -> bool:
    """Whether a container can hold a stream as it is."""
    import av

    try:
        with av.open(io.BytesIO(), "w", format=name) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
        return True
    except (av.FFmpegError, ValueError):
        return False


def _moment(packet: Any) -> float:
    return float(packet.dts * packet.time_base) if packet.dts is not None else 0.0


def check_ending(output: Path) -> str:
    """The ending of a film to be written. Raises FilmError if it is none."""
    ending = output.suffix.lower()
    if ending not in ENDINGS:
        raise FilmError(f"{output}: give the film one of the endings {' '.join(ENDINGS)}")
    return ending
