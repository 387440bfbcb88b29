"""Where each pixel of a frame was in the frame before: dense optical flow, and warping along it.

Flow is DIS (Kroeger, Timofte, Dai and Van Gool 2016, "Fast Optical Flow using Dense Inverse
Search"), as OpenCV has it. Where it is not to be trusted is told by the flow back again (Sundaram,
Brox and Keutzer 2010): what does not come back to where it started was hidden, or is wrong.
"""

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np

from colorhub.errors import OptionError

SMALLEST = 16  # pixels of a side, below which DIS has no patch to compare


@dataclass(frozen=True)
class Flow:
    """From each pixel of a frame to where it was in the frame before."""

    places: np.ndarray
    """(H, W, 2) float32: x and y in the frame before, in pixels."""
    trust: np.ndarray
    """(H, W) float32 in [0, 1]: 0 where the pixel was not there before."""

    def warp(self, before: np.ndarray) -> np.ndarray:
        """What belongs to the frame before, (H, W) or (H, W, C), moved to where it is now."""
        cv2 = _opencv()
        border = cv2.BORDER_REPLICATE
        return cv2.remap(before, self.places, None, cv2.INTER_LINEAR, borderMode=border)


def flow(now: np.ndarray, before: np.ndarray, *, strict: bool = False) -> Flow:
    """The flow between two frames' greys, both (H, W) uint8.

    `strict` searches finer, which takes thrice the time, and trusts less: to measure by.
    Raises OptionError if OpenCV is not installed.
    """
    cv2 = _opencv()
    height, width = now.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    if min(height, width) < SMALLEST:  # nothing moves in so small a frame
        still = np.dstack((x, y))
        return Flow(still, _alike(now, before, 16))
    preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM if strict else cv2.DISOPTICAL_FLOW_PRESET_FAST
    dis = cv2.DISOpticalFlow_create(preset)
    back = dis.calc(now, before, None)
    forth = dis.calc(before, now, None)
    found = Flow(back + np.dstack((x, y)), np.ones_like(x))
    astray = np.square(back + found.warp(forth)).sum(2)
    moved = np.square(back).sum(2)
    allowed, levels = (0.5 + 0.05 * moved, 16) if strict else (4 + 0.2 * moved, 48)
    trust = np.exp(-astray / allowed) * _alike(now, found.warp(before), levels)
    inside = (found.places >= -0.5).all(2) & (found.places <= (width - 0.5, height - 0.5)).all(2)
    return Flow(found.places, (trust * inside).astype(np.float32))


def grey(lightness: np.ndarray) -> np.ndarray:
    """Lightness in [-1, 1] to what `flow` takes."""
    return np.clip((lightness + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def need_opencv() -> None:
    """Raise OptionError if OpenCV is not installed."""
    if importlib.util.find_spec("cv2") is None:
        raise OptionError("Optical flow needs OpenCV: pip install 'colorhub[video]'")


def _opencv() -> Any:
    need_opencv()
    import cv2

    return cv2


def _alike(now: np.ndarray, before: np.ndarray, levels: float) -> np.ndarray:
    """1 where two greys are the same, less where they are apart, by so many levels 0.37."""
    return np.exp(-np.square((now.astype(np.float32) - before) / levels)).astype(np.float32)
