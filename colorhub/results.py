"""Coloured photos into files: in the original's format and depth, with what belongs to it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from PIL import Image

from colorhub import exif
from colorhub.decoding import reason, strips
from colorhub.errors import OptionError, PhotoError
from colorhub.metadata import Metadata, jpeg_head, png_head
from colorhub.originals import Original
from colorhub.photos import ending, whole

PROFILES = ("srgb", "p3")
_DEEP = (".png", ".tif", ".tiff", ".ppm", ".pgm")  # formats that carry 16 bits a channel
_CLEAR = (".png", ".tif", ".tiff", ".webp", ".avif")  # formats that carry transparency
_NAMES = {"exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "comments": "comments"}
_HOLDS: dict[str, tuple[str, ...]] = dict.fromkeys((".webp", ".avif"), ("exif", "xmp"))
_HOLDS |= dict.fromkeys((".bmp", ".ppm", ".pgm"), ())
_HOLDS |= dict.fromkeys((".tif", ".tiff"), ("exif", "xmp", "iptc"))


def write(
    path: str | os.PathLike[str], levels: np.ndarray, original: Original, **options: Any
) -> tuple[str, ...]:
    """Write a photo's colours, whole or not at all; the path's ending chooses the format.

    For the rest see `encode`. Raises PhotoError if the file cannot be written, too.
    """
    with whole(Path(path)) as part:
        return encode(part, ending(Path(path)), levels, original, **options)


def encode(
    part: Path,
    suffix: str,
    levels: np.ndarray,
    original: Original,
    *,
    profile: str = "srgb",
    note: str | None = None,
) -> tuple[str, ...]:
    """Write a photo's colours, sRGB (3, H, W) of uint8 or uint16, in the format of a suffix.

    Transparency and metadata are the original's; the result is tagged with a colour profile:
    "srgb", "p3" (Display P3) or an ICC file to convert to. A note of how it came about goes into
    XMP. Returns warnings: what the format cannot hold. Raises OptionError for a profile that is
    none.
    """
    metadata, alpha, warnings = original.metadata, original.alpha, []
    if note:
        metadata = metadata.noting(note)
        if metadata is original.metadata:
            warnings.append("its XMP is damaged: no note is put into it")
    deep = levels.dtype == np.uint16 and suffix in _DEEP
    if levels.dtype == np.uint16 and not deep:
        warnings.append(f"{suffix} files have 8 bits a channel, of its 16")
    if alpha is not None and suffix not in _CLEAR:
        warnings.append(f"{suffix} files have no transparency: it is laid on white")
        levels, alpha = _on_white(levels, alpha), None
    image = _converted(_image(levels, alpha, deep), profile)
    try:
        warnings += _save(image, part, suffix, metadata)
    except pyvips.Error as error:
        with part.open("ab") as file:  # a full disk says so, which libvips does not
            file.write(bytes(1 << 16))
        raise PhotoError(f"The result cannot be a {suffix} file{reason(error)}.") from None
    held = _HOLDS.get(suffix, ("exif", "xmp", "iptc", "comments"))
    lost = [name for name in _NAMES if getattr(metadata, name) and name not in held]
    return (*warnings, *(f"{suffix} files cannot hold its {_NAMES[name]}" for name in lost))


def _save(image: pyvips.Image, part: Path, suffix: str, metadata: Metadata) -> list[str]:
    """Write a picture in the format of a suffix; warnings."""
    warnings: list[str] = []
    if suffix in (".jpg", ".jpeg"):

        def jpeg(head: bytes) -> bytes:
            made, too_long = jpeg_head(head, metadata)
            warnings.extend(f"its {name} is longer than a JPEG can hold" for name in too_long)
            return made

        with _spliced(part, lambda content: 20 * (len(content) >= 20), jpeg) as target:
            image.jpegsave_target(target, Q=95, subsample_mode="off", keep="icc")
    elif suffix == ".png":
        with _spliced(part, _before_pixels, partial(png_head, metadata=metadata)) as target:
            image.pngsave_target(target, keep="icc")
    elif suffix in (".tif", ".tiff"):
        image = image.copy(**_per_millimetre(metadata))
        options = {"compression": "deflate", "level": 1, "predictor": "horizontal"}
        with part.open("wb"):  # says why it cannot be written, if so
            pass
        image.tiffsave(os.fsencode(part), keep="icc", resunit="inch", **options)
        sized = metadata.dpi is not None
        exif.into_tiff(part, metadata.exif, xmp=metadata.xmp, iptc=metadata.iptc, sized=sized)
    elif suffix in (".ppm", ".pgm"):
        most, form = (65535, ">u2") if image.format == "ushort" else (255, "u1")
        with part.open("wb") as file:
            file.write(f"P6\n{image.width} {image.height}\n{most}\n".encode())
            for strip in strips(image):
                file.write(strip.astype(form).tobytes())
    else:
        _by_pillow(image, part, suffix, metadata)
    return warnings


@contextmanager
def _spliced(
    part: Path, length: Callable[[bytes], int], changed: Callable[[bytes], bytes]
) -> Iterator[pyvips.TargetCustom]:
    """A file to write to, of which the head is changed on its way.

    `length` says of the first bytes how many the head has, and 0 as long as it is not whole.
    """
    head, done, trouble = b"", False, None

    with part.open("wb") as file:

        def write(content: Any) -> int:
            nonlocal head, done, trouble
            try:
                if done:
                    file.write(content)
                else:
                    head += bytes(content)
                    if size := length(head):
                        file.write(changed(head[:size]) + head[size:])
                        done = True
            except OSError as error:  # which must not pass through libvips
                trouble = error
                return -1
            return len(content)

        target = pyvips.TargetCustom()
        target.on_write(write)
        try:
            yield target
        except pyvips.Error:
            if trouble is not None:
                raise trouble from None
            raise


def _before_pixels(png: bytes) -> int:
    """Where the first chunk of pixels of a PNG file begins; 0 if it does not yet."""
    return max(png.find(b"IDAT") - 4, 0)


def _image(levels: np.ndarray, alpha: np.ndarray | None, deep: bool) -> pyvips.Image:
    bands = [_band(plane, deep) for plane in levels]
    if alpha is not None:
        bands.append(_band(alpha, deep))
    image = bands[0].bandjoin(bands[1:])
    image = image.copy(interpretation="rgb16" if deep else "srgb")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", _builtin("srgb"))
    return image


def _band(plane: np.ndarray, deep: bool) -> pyvips.Image:
    image = pyvips.Image.new_from_array(np.ascontiguousarray(plane))
    if plane.dtype == np.uint16 and not deep:
        return (image / 257).rint().cast("uchar")
    if plane.dtype == np.uint8 and deep:
        return (image * 257).cast("ushort")
    return image


def _on_white(levels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    white = np.iinfo(levels.dtype).max
    share = alpha.astype(np.float32) / np.iinfo(alpha.dtype).max
    result = np.empty_like(levels)
    for plane, laid in zip(levels, result, strict=True):
        np.rint(white - (white - plane) * share, out=laid, casting="unsafe")
    return result


def check_profile(profile: str) -> None:
    """Raise OptionError for a colour profile that `encode` cannot convert to."""
    _converted(_image(np.zeros((3, 1, 1), np.uint8), None, deep=False), profile)


def _converted(image: pyvips.Image, profile: str) -> pyvips.Image:
    if profile == "srgb":
        return image
    if profile not in PROFILES and not Path(profile).is_file():
        raise OptionError(
            f"There is no colour profile {profile!r}: give {', '.join(PROFILES)} or an ICC file."
        )
    depth = 16 if image.format == "ushort" else 8
    try:
        image.crop(0, 0, 1, 1).icc_transform(profile, embedded=True).copy_memory()
        converted = image.icc_transform(profile, embedded=True, intent="relative", depth=depth)
    except pyvips.Error:
        raise OptionError(f"{profile} is no colour profile that pictures can have.") from None
    if converted.bands != image.bands:
        raise OptionError(f"{profile} is no profile of an RGB space.")
    return converted


def _builtin(profile: str) -> bytes:
    return bytes(pyvips.Operation.call("profile_load", profile))


def _per_millimetre(metadata: Metadata) -> dict[str, float]:
    across, down = metadata.dpi or (25.4, 25.4)
    return {"xres": across / 25.4, "yres": down / 25.4}


def _by_pillow(image: pyvips.Image, part: Path, suffix: str, metadata: Metadata) -> None:
    picture = Image.fromarray(image.numpy())
    options: dict[str, Any] = {"dpi": metadata.dpi} if metadata.dpi else {}
    if suffix in (".webp", ".avif"):
        tags = metadata.exif
        if metadata.dpi and not exif.resolution(tags):  # they have no other place for it
            tags = exif.with_resolution(tags, metadata.dpi)
        icc = bytes(image.get("icc-profile-data"))
        options |= {"icc_profile": icc, "exif": tags, "xmp": metadata.xmp, "quality": 95}
    if suffix == ".webp":
        options |= {"exact": True, "use_sharp_yuv": True}  # colours behind what is transparent
        if metadata.lossless:
            options |= {"lossless": True, "quality": 50}  # which is the encoder's effort
    elif suffix == ".avif":
        options |= {"subsampling": "4:4:4", "exif": exif.without_orientation(tags)}
        if picture.mode == "RGBA":
            options["quality"] = 100  # which keeps transparency as it is
    picture.save(part, Image.registered_extensions()[suffix], **options)
