"""The tone curve of a grey ICC profile (ICC.1:2022, sections 10.6 and 10.18).

libvips' colour engine samples such curves too coarsely near black, where the eye sees it.
"""

import struct

import numpy as np


def grey_light(profile: bytes, levels: np.ndarray) -> np.ndarray:
    """The light, 0 to 1, of levels from 0 to 1 in the grey space of a profile.

    Raises ValueError if it is not the profile of a grey.
    """
    try:
        if profile[16:20] != b"GRAY":
            raise ValueError("no profile of a grey")
        (tags,) = struct.unpack_from(">I", profile, 128)
        table = (struct.unpack_from(">4sII", profile, 132 + 12 * tag) for tag in range(tags))
        (place,) = (place for name, place, _ in table if name == b"kTRC")
        kind, count = struct.unpack_from(">4s4xI", profile, place)
        if kind == b"curv":
            return _sampled(profile, place, count, levels)
        if kind == b"para":
            return _parametric(profile, place, levels)
    except struct.error:
        pass
    raise ValueError("a profile without a curve")


def _sampled(profile: bytes, place: int, count: int, levels: np.ndarray) -> np.ndarray:
    if count == 0:
        return levels
    samples = np.array(struct.unpack_from(f">{count}H", profile, place + 12))
    if count == 1:
        return levels ** (samples[0] / 256)
    return np.interp(levels, np.linspace(0, 1, count), samples / 65535)


def _parametric(profile: bytes, place: int, levels: np.ndarray) -> np.ndarray:
    """From `d` on a power, (a x + b)^g + e, below it a line, c x + f."""
    (form,) = struct.unpack_from(">H", profile, place + 8)
    if form > 4:
        raise ValueError("a curve of an unknown form")
    count = (1, 3, 4, 5, 7)[form]
    numbers = struct.unpack_from(f">{count}i", profile, place + 12)
    g, a, b, *rest = [number / 65536 for number in numbers] if form else (numbers[0] / 65536, 1, 0)
    c, d, e, f = 0.0, -b / a if form in (1, 2) and a else 0.0, 0.0, 0.0
    if form == 2:
        e = f = rest[0]
    elif form >= 3:
        c, d, *ends = rest
        e, f = ends or (0.0, 0.0)
    power = np.maximum(a * levels + b, 0) ** g + e
    return np.clip(np.where(levels >= d, power, c * levels + f), 0, 1)
