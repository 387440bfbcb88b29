"""A clip as one picture, and as training sees it.

A clip travels where photos do (`batches.PhotoBatches`, streams, exact resume): as a film strip, one
JPEG of its frames below each other that says so in its comment.
"""

import io
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from colorhub.data import Row, crop
from colorhub.errors import OptionError

SIDE = 256  # pixels of a strip's frames, their short side, at the most
_COMMENT = re.compile(rb"colorhub: (\d+) frames")


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
    # Clips may be called as films are, fox.mp4: this is a picture, and must not be passed over.
    return {"image": {"bytes": file.getvalue(), "path": f"{name}.jpg"}}


def frames_of(photo: Image.Image) -> list[Image.Image] | None:
    """The frames of a strip; None for any other picture."""
    match = _COMMENT.fullmatch(bytes(photo.info.get("comment", b"")))
    if match is None:
        return None
    count = int(match[1])
    height = photo.height // count
    return [photo.crop((0, i * height, photo.width, (i + 1) * height)) for i in range(count)]


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
