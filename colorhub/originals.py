"""Photo files with all that they hold: pixels at their own depth, transparency, metadata.

`read` takes any photo and gives an `Original`, or raises PhotoError; `write` puts its colours
into a file again, with what belongs to it. Decoding and encoding are libvips' work (Pillow's for
the formats that it lacks); the levels between them are always sRGB's.
"""

import functools
import io
import logging
import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyvips
import torch
from PIL import Image, UnidentifiedImageError

from colorhub import exif
from colorhub.color import encode
from colorhub.errors import PhotoError
from colorhub.icc import grey_light
from colorhub.metadata import Metadata, iptc_of, jpeg_comments, png_texts
from colorhub.photos import FORMATS, Photo, explaining, open_photo, source_of

MAX_MEGAPIXELS = 256
_LOADERS = {"jpeg": "jpegload", "png": "pngload", "tiff": "tiffload", "webp": "webpload"}
_LOADERS |= {"gif": "gifload", "avif": "heifload"}
_TO_SRGB = {"embedded": True, "intent": "relative", "depth": 16}
_HEAD = 1 << 20  # bytes in which a JPEG's comments are looked for

logging.getLogger("pyvips").addHandler(logging.NullHandler())  # its warnings are no errors
pyvips.cache_set_max(0)  # each photo is decoded once: keeping it would only fill memory


@dataclass(frozen=True)
class Original:
    """A photo as its file holds it, upright.

    `levels` are sRGB, (1 or 3, H, W) of uint8 or uint16; `alpha` is (H, W), of as many bits, as it
    stood in the file. `bits` are those that the file had a channel, 8 or 16; the levels have more
    where a colour profile was honoured.
    """

    levels: np.ndarray
    bits: int = 8
    alpha: np.ndarray | None = None
    metadata: Metadata = field(default_factory=Metadata)
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.levels.shape[2], self.levels.shape[1]

    def picture(self, size: tuple[int, int] | None = None) -> Image.Image:
        """PIL "L" or "RGB", 8 bits, transparency laid on white, brought to (width, height)."""
        bands = [_resized(plane, size) for plane in self.levels]
        picture = bands[0] if len(bands) == 1 else Image.merge("RGB", bands)
        if self.alpha is not None:
            white = Image.new(picture.mode, picture.size, "white")
            picture = Image.composite(picture, white, _resized(self.alpha, size))
        return picture


def read(photo: Photo, *, salvage: bool = False) -> Original:
    """Any photo, upright, with what its file holds besides.

    Takes what `open_photo` takes. With `salvage` a damaged or truncated file is read as far as it
    goes. Raises PhotoError if it is missing, damaged, no photo, empty or above 256 megapixels,
    which its header is asked for before anything is decoded.
    """
    if isinstance(photo, (np.ndarray, Image.Image)):
        return Original(planes_of(open_photo(photo)))
    with explaining(photo) as name:
        try:
            return _decoded(*_opened(photo, name, salvage), name)
        except pyvips.Error as error:
            if "memory" in str(error):
                raise MemoryError from error
            raise PhotoError(f"{name} is damaged and cannot be read{_reason(error)}.") from None


def planes_of(picture: Image.Image) -> np.ndarray:
    """PIL "L" or "RGB" to levels (1 or 3, H, W), uint8."""
    return np.stack([np.asarray(band) for band in picture.split()])


def picture_of(levels: np.ndarray) -> Image.Image:
    """Levels (1 or 3, H, W) to PIL "L" or "RGB" of 8 bits."""
    return Original(levels).picture()


def _resized(plane: np.ndarray, size: tuple[int, int] | None) -> Image.Image:
    if plane.dtype == np.uint16:
        plane = ((plane.astype(np.uint32) + 128) // 257).astype(np.uint8)
    plane = np.ascontiguousarray(plane)
    band = Image.frombuffer("L", plane.shape[::-1], plane, "raw", "L", 0, 1)
    if size is None:
        return band
    return band.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)


def _head(photo: str | os.PathLike[str] | bytes, size: int) -> bytes:
    if isinstance(photo, bytes):
        return photo[:size]
    with open(photo, "rb") as file:
        return file.read(size)


def _kind(head: bytes) -> str:
    """The format by a file's first bytes; "" if it is none of those that libvips is asked for."""
    if head[4:8] == b"ftyp":
        return "avif" if b"avif" in head or b"avis" in head else "heic"
    marks = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n": "png", b"GIF8": "gif"}
    marks |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for mark, kind in marks.items() if head.startswith(mark)), "")


def _opened(photo: Any, name: str, salvage: bool) -> tuple[pyvips.Image, Metadata, tuple[str, ...]]:
    """A photo of which the header alone was read, if its format allows that; warnings."""
    kind = _kind(_head(photo, 64))
    if kind not in _LOADERS:
        return _by_pillow(photo, kind, name)
    options = {"access": "sequential", "fail_on": "none" if salvage else "error"}
    try:
        if isinstance(photo, bytes):
            image = pyvips.Operation.call(_LOADERS[kind] + "_buffer", photo, **options)
        else:
            image = pyvips.Operation.call(_LOADERS[kind], os.fsencode(photo), **options)
    except pyvips.Error:
        if kind != "tiff":
            raise
        try:
            return _by_pillow(photo, kind, name)  # which knows some other kinds of it
        except UnidentifiedImageError:
            raise PhotoError(
                f"{name} is damaged, or a rare kind of TIFF: save it with 8 or 16 bits a channel."
            ) from None
    _check_size(image.width, image.height, name)
    warnings = []
    if (pages := _field(image, "n-pages", 1)) > 1:
        thing = "pages" if kind == "tiff" else "frames"
        warnings.append(f"it has {pages} {thing}, of which the first is coloured")
    return image, _metadata(image, photo, kind), tuple(warnings)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise PhotoError(
            f"{name} has {width * height / 1e6:.0f} megapixels; the limit is {MAX_MEGAPIXELS}. "
            "Make it smaller."
        )


def _decoded(
    image: pyvips.Image, metadata: Metadata, warnings: tuple[str, ...], name: str
) -> Original:
    turn = _field(image, "orientation", exif.orientation(metadata.exif))
    image = image.copy_memory()
    if turn != 1:
        image.set_type(pyvips.GValue.gint_type, "orientation", turn)
        image = image.autorot().copy_memory()
    upright = metadata.upright((image.width, image.height), quarter=turn in (5, 6, 7, 8))
    if metadata.exif and not upright.exif:
        warnings += ("its EXIF is damaged and is left out",)
    alpha = None
    if image.hasalpha():
        alpha = image[image.bands - 1]
        alpha = _plane(_whole_numbers(alpha, name))
        image = image[: image.bands - 1]
    image, bits, more = _standard(image, name)
    form = np.uint8 if image.format == "uchar" else np.uint16
    levels = np.empty((image.bands, image.height, image.width), form)
    for band, plane in enumerate(levels):
        plane[:] = _plane(image[band])
    return Original(levels, bits, alpha, upright, warnings + more)


def _standard(image: pyvips.Image, name: str) -> tuple[pyvips.Image, int, tuple[str, ...]]:
    """Any colours to levels of sRGB or of its grey; the file's bits; warnings."""
    if image.interpretation in ("lab", "labs", "labq", "xyz", "yxy", "hsv", "lch"):
        return image.colourspace("rgb16"), 16 if image.format != "uchar" else 8, ()
    image = _whole_numbers(image, name)
    bits = 8 if image.format == "uchar" else 16
    if image.bands not in (1, 3, 4):
        raise PhotoError(f"{name} has {image.bands} channels: save it as grey, RGB or CMYK.")
    profile = _field(image, "icc-profile-data", None)
    if image.bands == 4:
        source = {} if profile else {"embedded": False, "input_profile": "cmyk"}
        return image.icc_transform("srgb", **(_TO_SRGB | source)), bits, ()
    if profile is None:
        return image, bits, ()
    try:
        look_up = _profiled(bytes(profile), image.bands, image.format)
    except (pyvips.Error, ValueError):
        return image, bits, ("its colour profile cannot be used and is taken for sRGB",)
    if look_up is None:
        return image, bits, ()
    if image.bands == 1:
        return image.maplut(look_up), bits, ()
    return image.icc_transform("srgb", **_TO_SRGB), bits, ()


@functools.lru_cache(maxsize=16)
def _profiled(profile: bytes, bands: int, form: str) -> pyvips.Image | None:
    """None if a colour profile is sRGB; else, for grey, what each level is in sRGB, of 16 bits.

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
    return pyvips.Image.new_from_array(np.rint(levels * 65535).astype(np.uint16)[None])


def _whole_numbers(image: pyvips.Image, name: str) -> pyvips.Image:
    """Levels of 8 or 16 bits; those of 32 bits and fractions by the scale that they show."""
    if image.format in ("uchar", "ushort"):
        return image
    if image.format in ("uint", "float", "double"):
        values = image.numpy()
        if not np.isfinite(values).all():
            raise PhotoError(f"{name} has pixels that are no numbers: save it as 8 or 16 bit.")
        whites = (65535.0, 4294967295.0) if image.format == "uint" else (1.0, 255.0, 65535.0)
        most = values.max()
        white = next((white for white in whites if most <= white), most)
        return (image * float(65535 / white)).rint().cast("ushort")
    raise PhotoError(f"{name} has {image.format} pixels: save it with 8 or 16 bits a channel.")


def _plane(image: pyvips.Image) -> np.ndarray:
    return image.numpy().reshape(image.height, image.width)


def _field(image: pyvips.Image, name: str, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else default


def _metadata(image: pyvips.Image, photo: Any, kind: str) -> Metadata:
    def block(name: str) -> bytes:
        return bytes(_field(image, name, b""))

    tags = block("exif-data").removeprefix(b"Exif\0\0")
    iptc = block("iptc-data") or block("photoshop-data")
    comments: tuple[tuple[str, str], ...] = ()
    if kind in ("tiff", "png"):
        with io.BytesIO(photo) if isinstance(photo, bytes) else open(photo, "rb") as file:
            if kind == "tiff":
                tags = exif.from_tiff(file)
            else:
                comments, iptc = png_texts(file)
    elif kind == "jpeg":
        comments = jpeg_comments(_head(photo, _HEAD))
    known = image.xres != 1 or image.yres != 1  # libvips' way to say that it is not known
    return Metadata(
        exif=tags,
        xmp=block("xmp-data"),
        iptc=iptc_of(iptc),
        dpi=(image.xres * 25.4, image.yres * 25.4) if known else None,
        comments=comments,
    )


def _by_pillow(photo: Any, kind: str, name: str) -> tuple[pyvips.Image, Metadata, tuple[str, ...]]:
    """What libvips has no decoder for: BMP, PNM, rare kinds of TIFF and, as an extra, HEIC."""
    formats: tuple[str, ...] = FORMATS
    if kind == "heic":
        try:
            import pi_heif
        except ImportError:
            raise PhotoError(
                f"{name} is a HEIC photo: pip install 'colorhub[heic]' to read such files."
            ) from None
        pi_heif.register_heif_opener()
        formats = ("HEIF",)
    with Image.open(source_of(photo), formats=formats) as opened:
        _check_size(*opened.size, name)
        info = opened.info
        values = _deep_pnm(opened, photo)
        if values is None:
            alpha = opened.has_transparency_data
            values = np.asarray(opened.convert("RGBA") if alpha else open_photo(opened))
    image = pyvips.Image.new_from_array(values, interpretation=None)
    if image.bands < 3:
        image = image.copy(interpretation="b-w" if image.format == "uchar" else "grey16")
    if profile := info.get("icc_profile"):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    tags, xmp = info.get("exif", b""), info.get("xmp", b"")
    metadata = Metadata(
        tags.removeprefix(b"Exif\0\0"),
        xmp,
        dpi=info.get("dpi") if all(info.get("dpi", ())) else None,
    )
    return image, metadata, ()


def _deep_pnm(opened: Any, photo: Any) -> np.ndarray | None:
    """The 16-bit levels of a PPM or PGM file, of which Pillow keeps 8 bits where it has colours."""
    if opened.format != "PPM":
        return None
    if opened.mode == "I":
        return np.asarray(opened).astype(np.uint16)[:, :, None]
    most = opened.tile[0].args[-1]
    if opened.tile[0].codec_name != "ppm" or most < 256:
        return None
    shape = (opened.height, opened.width, len(opened.getbands()))
    with io.BytesIO(photo) if isinstance(photo, bytes) else open(photo, "rb") as file:
        file.seek(opened.tile[0].offset)
        content = file.read(2 * math.prod(shape))
    levels = np.frombuffer(content, ">u2").reshape(shape).astype(np.float64)
    return np.round(np.minimum(levels / most, 1) * 65535).astype(np.uint16)


def _reason(error: pyvips.Error) -> str:
    lines = [line.strip() for line in str(error.detail).splitlines() if line.strip()]
    return f" ({lines[0].split(': ', 1)[-1]})" if lines else ""
