"""Small films of our own making, for tests, and what is in a film."""

from fractions import Fraction

import av
import numpy as np
import pytest


def moving(count, size=(64, 48), speed=2.0, seed=0):
    """Greys (H, W) uint8 of a pattern that moves to the right."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    for i in range(count):
        at = x - speed * i
        waves = np.sin(at / 5 + phase[0]) + np.sin(y / 4 + phase[1]) * np.cos(at / 9 + phase[2])
        yield (127 + 50 * waves).clip(0, 255).astype(np.uint8)


def make_film(
    path,
    pictures=20,
    *,
    times=None,
    time_base=Fraction(1, 25),
    codec="libx264",
    form="yuv420p",
    audio=None,
    turned=0,
    aspect=None,
    matrix=None,
    container=None,
    options=None,
    gop=None,
):
    """A film of greys (H, W) or colours (H, W, 3), or of so many; gives its path.

    `times` are in steps of time_base; `audio` is a codec's name.
    """
    pictures = list(moving(pictures) if isinstance(pictures, int) else pictures)
    times = list(times or range(len(pictures)))
    with av.open(str(path), "w", format=container, options=options or {}) as film:
        stream = film.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = form
        stream.codec_context.time_base = stream.time_base = time_base
        stream.codec_context.gop_size = gop or 250
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix:
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = matrix
            context.color_range = 1
        if turned:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV does not write how films are turned")
            stream.set_display_rotation(turned)
        sound = film.add_stream(audio, rate=48000, layout="mono") if audio else None
        for time, picture in zip(times, pictures, strict=True):
            rgb = np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame = frame.reformat(format=form, dst_colorspace=matrix or 5)
            frame.pts, frame.time_base = time, time_base
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
        if sound:
            for start in range(0, int(48000 * times[-1] * time_base), 1024):
                tone = np.sin(np.arange(start, start + 1024) / 17) * 8000
                frame = av.AudioFrame.from_ndarray(
                    tone.astype(np.int16)[None], format="s16", layout="mono"
                )
                frame.sample_rate, frame.pts = 48000, start
                film.mux(sound.encode(frame))
            film.mux(sound.encode(None))
    return path


def times_of(path):
    """When each frame is shown, in seconds."""
    with av.open(str(path)) as film:
        return [frame.pts * frame.time_base for frame in film.decode(video=0)]


def pictures_of(path):
    """(T, H, W, 3) uint8, as stored."""
    with av.open(str(path)) as film:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])


def packets_of(path):
    """The sound's packets as they are: (seconds, bytes)."""
    with av.open(str(path)) as film:
        packets = film.demux(film.streams.audio[0]) if film.streams.audio else ()
        return [(each.pts * each.time_base, bytes(each)) for each in packets if each.size]
