"""Photo files: opened upright as 8-bit grey or RGB, written whole or not at all."""

import io
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from colorhub.errors import PhotoError

Photo = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

MAX_MEGAPIXELS = 178  # Pillow's own limit for what it decodes
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".ppm", ".pgm")

# Pillow also opens formats that run outside programs (EPS) or hold no photos: not asked to.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "PPM", "GIF")

_GAP = rb"(?:\s|#[^\n]*\n)+"  # between a PNM header's numbers, comments and all
_PNM = re.compile(rb"P([2356])" + (_GAP + rb"(\d{1,9})") * 3 + rb"\s")
_PAM = re.compile(  # as every program writes it, with comments
    rb"P7\n"
    + b"".join(rb"(?:#[^\n]*\n)*%s +(\d{1,9})\n" % key for key in (b"WIDTH", b"HEIGHT", b"DEPTH"))
    + rb"(?:#[^\n]*\n)*MAXVAL +(\d{1,9})\n(?:(?:#|TUPLTYPE)[^\n]*\n)*ENDHDR\n"
)


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


def stored_levels(image: Image.Image) -> np.ndarray:
    """A PIL image as it is stored, not turned: (H, W, 1 to 4), uint8 or, of 16-bit grey, uint16.

    The last of 2 or 4 channels is transparency.
    """
    depths = getattr(image, "tag_v2", {}).get(258, (16,))  # TIFF's bits of each channel
    if len(depths) > 1 and max(depths) > 8:
        raise ValueError("Pillow would keep 8 bits, or the wrong ones")
    if image.mode.startswith("I;16"):
        most = (1 << depths[0]) - 1  # scanners have 12 bits
        levels = np.asarray(image).astype(np.uint32)
        return (np.minimum(levels, most) * 65535 // most).astype(np.uint16)[..., None]
    if not image.has_transparency_data:
        levels = np.asarray(_to_eight_bits(image))
    else:
        grey = image.mode in ("LA", "La", "L", "1")
        levels = np.asarray(image.convert("LA" if grey else "RGBA"))
    return levels.reshape(*levels.shape[:2], -1)


def deep_pnm(file: BinaryIO, check_size: Callable[[int, int], None]) -> np.ndarray | None:
    """The levels (H, W, channels) of a PAM file, or of a PPM or PGM file of more than 8 bits.

    None for other files, of which Pillow keeps all bits. `check_size` gets width and height before
    the rest is read. Raises ValueError for a damaged file.
    """
    head = file.read(1 << 12)
    if numbers := _PAM.match(head):
        size, depth = (int(numbers[1]), int(numbers[2])), int(numbers[3])
    elif numbers := _PNM.match(head):
        size, depth = (int(numbers[2]), int(numbers[3])), 3 if numbers[1] in b"36" else 1
    most = int(numbers[4]) if numbers else 0
    if numbers is None or (most < 256 and head[:2] != b"P7"):
        return None
    check_size(*size)
    if not (0 < most < 65536 and 1 <= depth <= 4 and min(size) > 0):
        raise ValueError("its header is not that of a picture")
    file.seek(numbers.end())
    form, count = np.dtype("u1" if most < 256 else ">u2"), size[0] * size[1] * depth
    if head[:2] in (b"P2", b"P3"):
        values = np.array(file.read(count * 8).split()[:count], np.int64)
    else:
        content = file.read(count * form.itemsize)
        values = np.frombuffer(content, form, len(content) // form.itemsize)
    if len(values) < count:
        raise ValueError("it is truncated")
    scale = (255 if most < 256 else 65535) / most
    levels = values.reshape(size[1], size[0], depth)
    if scale != 1:
        levels = np.rint(np.clip(levels, 0, most) * scale)
    return levels.astype(np.uint8 if most < 256 else np.uint16)


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
        reason = " ".join(str(error).split()).rstrip(".")
        raise PhotoError(
            f"{name} is damaged and cannot be read ({reason}): take another copy."
        ) from error


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
