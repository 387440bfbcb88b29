"""Any channels that a photo may have to levels of sRGB, by libvips."""

import functools
from typing import Any

import numpy as np
import pyvips
import torch

from colorhub.color import encode
from colorhub.errors import PhotoError
from colorhub.icc import grey_light

_TO_SRGB = {"embedded": True, "intent": "relative", "depth": 16}
STORED = {"uchar": np.uint8, "ushort": np.uint16}
"""libvips' names of what levels are stored as, as NumPy has them."""

_FAR_FROM_SRGB = ("lab", "labs", "labq", "xyz", "yxy", "hsv", "lch")


def parted(image: pyvips.Image, name: str) -> tuple[pyvips.Image, pyvips.Image | None]:
    """The colours, and of what is beside them the first: transparency."""
    if image.coding != "none":
        return image, None
    if image.format not in STORED and image.interpretation not in _FAR_FROM_SRGB:
        image = _whole_numbers(image, name)
    bands = {"cmyk": 4}.get(image.interpretation, 3 if image.bands >= 3 else 1)
    if image.interpretation == "multiband" and image.bands > 3:
        raise PhotoError(f"{name} has {image.bands} channels: save it as grey, RGB or CMYK.")
    if image.bands <= bands:
        return image, None
    if image.format not in STORED:
        raise PhotoError(
            f"{name} has transparency beside colours that are not RGB: save it as RGB."
        )
    return image.extract_band(0, n=bands), image[bands]


def to_srgb(image: pyvips.Image, name: str) -> tuple[pyvips.Image, tuple[str, ...]]:
    """Any colours to levels of sRGB or of its grey; warnings."""
    if image.interpretation in _FAR_FROM_SRGB:
        return image.colourspace("rgb16"), ()
    profile = field_of(image, "icc-profile-data", None)
    if image.bands == 4:
        return image.icc_transform("srgb", input_profile="cmyk", **_TO_SRGB), ()
    if profile is None:
        return image, ()
    try:
        look_up = _profiled(bytes(profile), image.bands, image.format)
    except (pyvips.Error, ValueError):
        return image, ("its colour profile cannot be used and is taken for sRGB",)
    if look_up is None:
        return image, ()
    if image.bands == 1:
        return image.maplut(look_up), ()
    return image.icc_transform("srgb", **_TO_SRGB), ()


@functools.lru_cache(maxsize=16)
def _profiled(profile: bytes, bands: int, form: str) -> pyvips.Image | None:
    """None if a colour profile is sRGB; else what levels are in sRGB, of 16 bits: of grey, all.

    Whether it is sRGB is asked of the colours that it gives, as files have it in many versions.
    """
    most = 255 if form == "uchar" else 65535
    if bands == 1:
        plain = np.arange(most + 1) / most
        light = torch.from_numpy(grey_light(profile, plain))
        levels = encode(light).clamp(0, 1).numpy()
    else:
        steps = np.linspace(0, most, 18).astype(np.uint8 if form == "uchar" else np.uint16)
        probe = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        image = pyvips.Image.new_from_array(probe)
        image = image.copy(interpretation="srgb" if form == "uchar" else "rgb16")
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        plain, levels = probe / most, image.icc_transform("srgb", **_TO_SRGB).numpy() / 65535
    if np.abs(levels - plain).max() <= 1 / 255:
        return None
    table = np.rint(levels * 65535).astype(np.uint16).reshape(1, -1, bands)
    return pyvips.Image.new_from_array(table)


def _whole_numbers(image: pyvips.Image, name: str) -> pyvips.Image:
    """Levels of 32 bits and fractions to 16 bits, by the scale that they show."""
    if image.format not in ("uint", "float", "double"):
        raise PhotoError(f"{name} has {image.format} pixels: save it with 8 or 16 bits a channel.")
    values = image.numpy().reshape(image.height, image.width, image.bands)
    levels = np.empty(values.shape, np.uint16)
    colors = 3 if image.bands > 2 else 1
    for some in (slice(colors), slice(colors, None)):  # transparency has its own scale
        if values[..., some].size:
            _scale(values[..., some], levels[..., some], name)
    scaled = labelled(levels)
    for kept in ("orientation", "icc-profile-data"):
        if kind := image.get_typeof(kept):
            scaled.set_type(kind, kept, image.get(kept))
    return scaled


def _scale(values: np.ndarray, levels: np.ndarray, name: str) -> None:
    most = values.max()
    if not np.isfinite(most) or not np.isfinite(values.min()):
        raise PhotoError(f"{name} has pixels that are no numbers: save it as 8 or 16 bit.")
    whites = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (65535.0, 4294967295.0)
    white = float(next((white for white in whites if most <= white), most))
    for row, into in zip(values, levels, strict=True):
        into[:] = np.rint(np.clip(row * np.float64(65535 / white), 0, 65535))


def labelled(levels: np.ndarray) -> pyvips.Image:
    """An image of (H, W, 1 to 4), the last of 2 or 4 transparency, uint8 or uint16."""
    spaces = ("b-w", "srgb") if levels.dtype == np.uint8 else ("grey16", "rgb16")
    levels = np.ascontiguousarray(levels)
    return pyvips.Image.new_from_array(levels).copy(interpretation=spaces[levels.shape[2] > 2])


def field_of(image: pyvips.Image, name: str, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else default
