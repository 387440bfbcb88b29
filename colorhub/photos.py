"""Photo files: opened upright as 8-bit grey or RGB, written whole or not at all."""

import io
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from colorhub.errors import PhotoError

Photo = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

MAX_MEGAPIXELS = 178  # Pillow's own limit for what it decodes
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".ppm", ".pgm")

# Pillow also opens formats that run outside programs (EPS) or hold no photos: not asked to.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "PPM", "GIF")


def open_photo(photo: Photo, *, at_least: int | None = None) -> Image.Image:
    """Any photo as an upright PIL image of mode "L" (grey) or "RGB", 8 bits a channel.

    Takes a path, a file's bytes, a PIL image of any mode, or an array: (H, W), (H, W, 1), (H, W, 3)
    or (H, W, 4), uint8, uint16, bool, or float in [0, 1]. EXIF orientation is applied, 16-bit and
    float pictures are scaled to 8 bits, transparency is laid on white, and of several frames or
    pages the first is taken. With `at_least` a JPEG may be decoded at a reduced size whose sides
    are no shorter than that many pixels, which is faster.

    Raises PhotoError if the file is missing, broken, no photo, empty, or above 178 megapixels.
    """
    if isinstance(photo, np.ndarray):
        return _upright(_from_array(photo), "the picture")
    if isinstance(photo, Image.Image):
        return _upright(photo, "the picture")
    with explaining(photo) as name, Image.open(source_of(photo), formats=FORMATS) as image:
        if at_least and image.format in ("JPEG", "MPO"):
            image.draft(None, (at_least, at_least))
        return _upright(image, name)


def source_of(photo: str | os.PathLike[str] | bytes) -> Any:
    """What Pillow opens for a path or a file's bytes."""
    return io.BytesIO(photo) if isinstance(photo, bytes) else photo


@contextmanager
def explaining(photo: str | os.PathLike[str] | bytes) -> Iterator[str]:
    """Turn whatever goes wrong with opening and decoding a photo into a PhotoError; its name."""
    name = "the picture" if isinstance(photo, bytes) else os.fspath(photo)
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged metadata and of sizes it will still decode: neither harms us.
            warnings.simplefilter("ignore")
            yield name
    except FileNotFoundError:
        raise PhotoError(f"{name}: there is no such file.") from None
    except IsADirectoryError:
        raise PhotoError(f"{name} is a folder, not a photo.") from None
    except PermissionError:
        raise PhotoError(f"{name} may not be read: its permissions forbid it.") from None
    except UnidentifiedImageError:
        raise PhotoError(
            f"{name} is not a photo colorhub can read: save it as JPEG, PNG, TIFF or WebP."
        ) from None
    except Image.DecompressionBombError:
        raise PhotoError(
            f"{name} has more than {MAX_MEGAPIXELS} megapixels, the limit. Make it smaller."
        ) from None
    except MemoryError:
        raise PhotoError(f"{name} does not fit into this machine's memory.") from None
    except PhotoError:
        raise
    except Exception as error:  # there is no list of what decoders raise on damaged files
        raise PhotoError(f"{name} is damaged and cannot be read ({error}).") from error


def save_photo(photo: Image.Image, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a picture at high quality, whole or not at all; the extension chooses the format.

    `options` go to Pillow's encoder: `icc_profile`, `exif`, `dpi`, ... Raises PhotoError if the
    extension is unknown or the place cannot be written to.
    """
    path = Path(path)
    extension = ending(path)
    if extension != ".png":
        options.setdefault("quality", 95)
    if extension in (".jpg", ".jpeg", ".avif"):  # colour is the point: not at half resolution
        options["subsampling"] = "4:4:4"
    with whole(path) as part:
        photo.save(part, Image.registered_extensions()[extension], **options)


def ending(path: Path) -> str:
    """A path's extension, of those that can be written. Raises PhotoError if it is another."""
    if path.suffix.lower() not in EXTENSIONS:
        raise PhotoError(f"{path}: give the picture one of the endings {' '.join(EXTENSIONS)}")
    return path.suffix.lower()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write a file at, which takes its own place once it is whole.

    If anything goes wrong what was there before stays. Raises PhotoError if the file cannot be
    written.
    """
    # The same name each time: what a killed run left there is written over by the next.
    part = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}.colorhub-part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise PhotoError(f"{path} cannot be written ({error}).") from error


def _upright(image: Image.Image, name: str) -> Image.Image:
    if 0 in image.size:
        raise PhotoError(f"{name} is empty: {image.width} x {image.height} pixels.")
    return _to_eight_bits(ImageOps.exif_transpose(image) or image)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Any mode to "L" or "RGB"."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey(image)
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return image.convert("L")
    if image.mode in ("LA", "La", "L", "1"):
        # Pillow knows no way from premultiplied grey to RGBA but through LA.
        return _on_white(image.convert("LA").convert("RGBA")).convert("L")
    if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        return _on_white(image.convert("RGBA"))
    return image.convert("RGB")  # palette, CMYK, YCbCr, HSV, LAB, RGBX


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey, scaled by the depth that the values show."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise PhotoError("the picture has pixels that are no numbers: save it as 8 or 16 bit.")
    brightest = values.max()
    if image.mode.startswith("I;16"):
        white = 65535.0
    else:
        ladder = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        white = next((step for step in ladder if brightest <= step), brightest)
    scaled = np.clip(values / white * 255, 0, 255)
    return Image.fromarray(np.round(scaled).astype(np.uint8))


def _from_array(array: np.ndarray) -> Image.Image:
    expected = "expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise PhotoError(f"An array of shape {array.shape} is no photo: {expected}.")
    if 0 in array.shape:
        raise PhotoError(f"The picture is empty: its shape is {array.shape}.")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = np.round(array / 257.0).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise PhotoError("A float array must hold finite values in [0, 1].")
        array = np.round(array * 255.0).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise PhotoError(f"An array of {array.dtype} is no photo: use uint8, uint16 or float.")
    return Image.fromarray(array)
