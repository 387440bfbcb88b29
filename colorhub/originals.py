"""Photo files with all that they hold: pixels at their own depth, transparency, metadata.

`read` takes any photo and gives an `Original`, or raises PhotoError; `write` puts its colours
into a file again, with what belongs to it. Decoding and encoding are libvips' work (Pillow's for
the formats that it lacks); the levels between them are always sRGB's.
"""

import functools
import importlib.util
import io
import json
import logging
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import pyvips
import torch
from PIL import Image

from colorhub import exif
from colorhub.color import encode
from colorhub.errors import PhotoError
from colorhub.icc import grey_light
from colorhub.metadata import (
    Found,
    Metadata,
    in_jpeg,
    in_png,
    in_utf8,
    iptc_of,
    is_png_bomb,
    webp_is_lossless,
)
from colorhub.photos import FORMATS, Photo, deep_pnm, explaining, open_photo, stored_levels

MAX_MEGAPIXELS = 256
_LOADERS = {"jpeg": "jpegload", "png": "pngload", "tiff": "tiffload", "webp": "webpload"}
_LOADERS |= {"gif": "gifload", "avif": "heifload"}
_TO_SRGB = {"embedded": True, "intent": "relative", "depth": 16}
_FAR_FROM_SRGB = ("lab", "labs", "labq", "xyz", "yxy", "hsv", "lch")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_FORMS = {"uchar": np.uint8, "ushort": np.uint16}
_STRIP = 1 << 18  # pixels decoded at a time: they fit the processor's cache

_Opened: TypeAlias = tuple[pyvips.Image, Metadata, tuple[str, ...]]
_PATIENCE = 120  # seconds that a HEIC decoder may take
_HEIF = """
import io, json, sys
sys.path = [place for place in sys.path if place]  # no modules from wherever this happens to run
import numpy as np
import pi_heif
try:
    whole = io.BytesIO(sys.stdin.buffer.read())
    opened = pi_heif.open_heif(whole, convert_hdr_to_8bit=False)
    told, (width, height) = {"size": opened.size}, opened.size
    if width * height <= int(sys.argv[1]):
        levels = np.array(opened)[:, :width].reshape(height, width, -1)
        if levels.dtype == np.uint16:  # it fills up with zeros: white stays white
            levels |= levels >> opened.info["bit_depth"]
        told |= {"shape": levels.shape, "form": levels.dtype.str}
        told |= {key: (opened.info.get(key) or b"").hex() for key in ("exif", "xmp", "icc_profile")}
except Exception as error:
    told = {"error": str(error)}
sys.stdout.buffer.write(json.dumps(told).encode() + b"\\n")
if "shape" in told:
    sys.stdout.buffer.write(np.ascontiguousarray(levels))
"""

logging.getLogger("pyvips").addHandler(logging.NullHandler())  # their warnings are no errors
logging.getLogger("PIL").addHandler(logging.NullHandler())
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

    Takes what `open_photo` takes, and HEIC as an extra. With `salvage` a damaged or truncated file
    is read as far as it goes. Raises PhotoError if it is missing, damaged, no photo, empty or above
    256 megapixels (178 for what Pillow decodes, such as BMP), which its header is asked for before
    anything is decoded.
    """
    if isinstance(photo, (np.ndarray, Image.Image)):
        return Original(planes_of(open_photo(photo)))
    with explaining(photo) as name:
        kind = _kind(_head(photo, 64))
        _check_structure(photo, kind, name)
        try:
            return _decoded(*_opened(photo, kind, name, salvage), name, salvage)
        except pyvips.Error as error:
            if "out of memory" in str(error.detail):
                raise MemoryError from None
            if kind == "tiff" and (original := _rare_tiff(photo, name)):
                return original
            if kind == "tiff":
                raise PhotoError(
                    f"{name} is damaged or a rare kind of TIFF and cannot be read{reason(error)}: "
                    "take another copy, or save it anew with 8 or 16 bits a channel."
                ) from None
            raise PhotoError(
                f"{name} is damaged and cannot be read{reason(error)}: take another copy, "
                "or salvage what is left of it."
            ) from None


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
    mode = os.stat(photo).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe may never say anything
        raise PhotoError(f"{os.fspath(photo)} is no file: save what comes from there first.")
    with open(photo, "rb") as file:
        return file.read(size)


def _file(photo: Any) -> BinaryIO:
    return io.BytesIO(photo) if isinstance(photo, bytes) else open(photo, "rb")


def _kind(head: bytes) -> str:
    """The format by a file's first bytes; "" if it is none of those that libvips is asked for."""
    if head[4:8] == b"ftyp":
        if b"avif" in head or b"avis" in head:
            return "avif"
        return "heic" if any(brand in head for brand in _HEIC_BRANDS) else ""
    marks = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n": "png", b"GIF8": "gif"}
    marks |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff")
    marks |= {b"P%d" % number: "pnm" for number in range(1, 8)}
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for mark, kind in marks.items() if head.startswith(mark)), "")


def _opened(photo: Any, kind: str, name: str, salvage: bool) -> _Opened:
    """A photo of which the header alone was read, if its format allows that; warnings."""
    if kind == "heic":
        return _by_heif(photo, name)
    if kind not in _LOADERS:
        return _by_pillow(photo, kind, name)
    options = {"access": "sequential", "fail_on": "none" if salvage else "error"}
    if isinstance(photo, bytes):
        image = pyvips.Operation.call(_LOADERS[kind] + "_buffer", photo, **options)
    else:
        image = pyvips.Operation.call(_LOADERS[kind], os.fsencode(photo), **options)
    _check_size(image.width, image.height, name)
    warnings = []
    if (pages := _field(image, "n-pages", 1)) > 1:
        thing = "pages" if kind == "tiff" else "frames"
        warnings.append(f"it has {pages} {thing}, of which the first is coloured")
    if kind == "avif":  # it comes upright already, whatever its EXIF says
        image = image.copy()
        image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    metadata, more = _metadata(image, photo, kind)
    return image, metadata, (*warnings, *more)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise PhotoError(
            f"{name} has {width * height / 1e6:.0f} megapixels; the limit is {MAX_MEGAPIXELS}. "
            "Make it smaller."
        )


def _check_structure(photo: Any, kind: str, name: str) -> None:
    """Refuse what decoders would work on for long, or take for something else."""
    if kind not in ("tiff", "png"):
        return
    with _file(photo) as file:
        if kind == "tiff" and exif.is_bomb(file):
            raise PhotoError(f"{name} has tags that are longer than it is: take another copy.")
        if kind == "tiff" and exif.holds_luma(file):
            raise PhotoError(f"{name} stores colours as bare luma and chroma: save it as RGB.")
        if kind == "png" and is_png_bomb(file):
            raise PhotoError(f"{name} has thousands of notes beside its pixels: save it anew.")


def _decoded(
    image: pyvips.Image,
    metadata: Metadata,
    warnings: tuple[str, ...],
    name: str,
    salvage: bool = False,
) -> Original:
    turn = _field(image, "orientation", exif.orientation(metadata.exif))
    turn = turn if 1 <= turn <= 8 else 1
    colors, alpha = _parted(image, name)
    bits = 8 if image.format == "uchar" else 16
    colors, more = _standard(colors, name)
    joined = colors if alpha is None else colors.bandjoin(alpha)
    levels = _planes(joined, turn, salvage)
    upright = metadata.upright(levels.shape[:0:-1], quarter=turn > 4)
    if metadata.exif and not upright.exif:
        warnings += ("its EXIF is damaged and is left out",)
    transparency = None
    if alpha is not None:
        transparency = levels[-1].astype(_FORMS[alpha.format], copy=False)
        levels = levels[:-1]
    return Original(levels, bits, transparency, upright, warnings + more)


def _planes(image: pyvips.Image, turn: int, salvage: bool) -> np.ndarray:
    """The channels (bands, H, W) of a picture turned upright, decoded once from top to bottom.

    With `salvage` what can no longer be decoded stays black.
    """
    across, down = (image.height, image.width) if turn > 4 else (image.width, image.height)
    upright = np.zeros((image.bands, down, across), _FORMS[image.format])
    stored = upright.transpose(0, 2, 1) if turn > 4 else upright
    stored = stored[:, :: -1 if turn in (3, 4, 6, 7) else 1, :: -1 if turn in (2, 3, 7, 8) else 1]
    top = 0
    try:
        for strip in strips(image):
            for band, plane in enumerate(stored):
                plane[top : top + len(strip)] = strip[:, :, band]
            top += len(strip)
    except pyvips.Error:
        if not salvage or top == 0:
            raise
    return upright


def strips(image: pyvips.Image) -> Iterator[np.ndarray]:
    """A picture's rows from top to bottom, (rows, W, bands): all of it is never in memory."""
    region, rows = pyvips.Region.new(image), max(16, _STRIP // image.width)
    for top in range(0, image.height, rows):
        some = min(rows, image.height - top)
        content = region.fetch(0, top, image.width, some)
        yield np.frombuffer(content, _FORMS[image.format]).reshape(some, image.width, image.bands)


def _parted(image: pyvips.Image, name: str) -> tuple[pyvips.Image, pyvips.Image | None]:
    """The colours, and of what is beside them the first: transparency."""
    if image.coding != "none":
        return image, None
    if image.format not in _FORMS and image.interpretation not in _FAR_FROM_SRGB:
        image = _whole_numbers(image, name)
    bands = {"cmyk": 4}.get(image.interpretation, 3 if image.bands >= 3 else 1)
    if image.interpretation == "multiband" and image.bands > 3:
        raise PhotoError(f"{name} has {image.bands} channels: save it as grey, RGB or CMYK.")
    if image.bands <= bands:
        return image, None
    if image.format not in _FORMS:
        raise PhotoError(
            f"{name} has transparency beside colours that are not RGB: save it as RGB."
        )
    return image.extract_band(0, n=bands), image[bands]


def _standard(image: pyvips.Image, name: str) -> tuple[pyvips.Image, tuple[str, ...]]:
    """Any colours to levels of sRGB or of its grey; warnings."""
    if image.interpretation in _FAR_FROM_SRGB:
        return image.colourspace("rgb16"), ()
    profile = _field(image, "icc-profile-data", None)
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
    scaled = _labelled(levels)
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


def _labelled(levels: np.ndarray) -> pyvips.Image:
    """An image of (H, W, 1 to 4), the last of 2 or 4 transparency, uint8 or uint16."""
    spaces = ("b-w", "srgb") if levels.dtype == np.uint8 else ("grey16", "rgb16")
    levels = np.ascontiguousarray(levels)
    return pyvips.Image.new_from_array(levels).copy(interpretation=spaces[levels.shape[2] > 2])


def _field(image: pyvips.Image, name: str, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else default


def _metadata(image: pyvips.Image, photo: Any, kind: str) -> tuple[Metadata, tuple[str, ...]]:
    def block(name: str) -> bytes:
        return bytes(_field(image, name, b""))

    found = Found(
        exif=block("exif-data").removeprefix(b"Exif\0\0"),
        xmp=block("xmp-data"),
        iptc=block("iptc-data") or block("photoshop-data"),
    )
    with _file(photo) as file:
        if kind == "tiff":
            found.exif = exif.from_tiff(file)
        elif kind == "png":
            chunks = in_png(file)
            xmp, iptc = chunks.xmp or found.xmp, chunks.iptc or found.iptc
            found = replace(chunks, exif=chunks.exif or found.exif, xmp=xmp, iptc=iptc)
        elif kind == "jpeg":
            head = in_jpeg(file, found.xmp)
            found = replace(head, exif=found.exif, iptc=found.iptc)
        lossless = kind == "webp" and webp_is_lossless(file)
    metadata = Metadata(
        exif=found.exif,
        xmp=in_utf8(found.xmp),
        iptc=iptc_of(found.iptc),
        dpi=found.dpi or exif.resolution(found.exif),
        comments=found.comments,
        lossless=lossless,
    )
    return metadata, found.warnings


def _rare_tiff(photo: Any, name: str) -> Original | None:
    """A TIFF file that libvips cannot read, if Pillow can."""
    with suppress(Exception):  # there is no list of what decoders raise on damaged files
        return _decoded(*_by_pillow(photo, "tiff", name), name)
    return None


def _by_pillow(photo: Any, kind: str, name: str) -> _Opened:
    """What libvips has no decoder for: BMP, PNM, rare kinds of TIFF."""
    with _file(photo) as file:
        if kind == "pnm":
            levels = deep_pnm(file, lambda width, height: _check_size(width, height, name))
            if levels is not None:
                return _labelled(levels), Metadata(), ()
        file.seek(0)
        tags = exif.from_tiff(file) if kind == "tiff" else b""
        file.seek(0)
        with Image.open(file, formats=FORMATS) as opened:
            _check_size(*opened.size, name)
            image = _labelled(stored_levels(opened))
            info, turn = opened.info, opened.getexif().get(exif.ORIENTATION, 1)
    image.set_type(pyvips.GValue.gint_type, "orientation", turn)
    if profile := info.get("icc_profile"):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    dpi = info.get("dpi")
    known = dpi is not None and all(dpi)
    return image, Metadata(tags, in_utf8(info.get("xmp", b"")), dpi=dpi if known else None), ()


def _by_heif(photo: Any, name: str) -> _Opened:
    """HEIC, in a process of its own: its decoder may crash on damaged files."""
    if importlib.util.find_spec("pi_heif") is None:
        raise PhotoError(
            f"{name} is a HEIC photo: pip install 'colorhub[heic]' to read such files."
        )
    command = [sys.executable, "-c", _HEIF, str(int(MAX_MEGAPIXELS * 1e6))]
    with (
        _file(photo) as file,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child,
    ):
        assert child.stdin and isinstance(child.stdout, io.BufferedReader)
        clock = threading.Timer(_PATIENCE, child.kill)
        clock.start()
        try:
            with suppress(BrokenPipeError):
                shutil.copyfileobj(file, child.stdin)
                child.stdin.close()
            told = json.loads(child.stdout.readline() or b'{"error": "its decoder crashed"}')
            if error := told.get("error"):
                raise ValueError(error)
            width, height = told["size"]
            _check_size(width, height, name)
            levels = np.empty(told["shape"], told["form"])
            if child.stdout.readinto(levels.data) != levels.nbytes:
                raise ValueError("its decoder crashed")
        finally:
            clock.cancel()
            child.kill()
    image = _labelled(levels)
    # The picture comes upright already, whatever its EXIF says.
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    tags, xmp, profile = (bytes.fromhex(told[key]) for key in ("exif", "xmp", "icc_profile"))
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    tags = tags.removeprefix(b"Exif\0\0")
    return image, Metadata(tags, in_utf8(xmp), dpi=exif.resolution(tags)), ()


def reason(error: pyvips.Error) -> str:
    """Why libvips failed, in parentheses behind a space; empty if it did not say."""
    lines = [line.strip() for line in str(error.detail).splitlines() if line.strip()]
    return f" ({lines[0].split(': ', 1)[-1].rstrip('.')})" if lines else ""
