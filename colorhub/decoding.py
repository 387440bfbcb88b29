"""Photo files of any kind to an `Original`, or to one sentence why not.

Decoding is libvips' work, Pillow's for the formats that it lacks, and that of pi_heif, as an extra.
"""

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
from dataclasses import replace
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import pyvips
from PIL import Image

from colorhub import exif
from colorhub.channels import STORED, field_of, labelled, parted, to_srgb
from colorhub.errors import PhotoError
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
from colorhub.originals import Original, planes_of
from colorhub.photos import FORMATS, Photo, deep_pnm, explaining, open_photo, stored_levels

MAX_MEGAPIXELS = 256
_LOADERS = {"jpeg": "jpegload", "png": "pngload", "tiff": "tiffload", "webp": "webpload"}
_LOADERS |= {"gif": "gifload", "avif": "heifload"}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
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


def _head(photo: str | os.PathLike[str] | bytes, size: int) -> bytes:
    if isinstance(photo, bytes):
        return photo[:size]
    check_file(photo)
    with open(photo, "rb") as file:
        return file.read(size)


def check_file(photo: str | os.PathLike[str]) -> None:
    """Raise PhotoError for a pipe or a device, which may never say anything or never end."""
    mode = os.stat(photo).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise PhotoError(f"{os.fspath(photo)} is no file: save what comes from there first.")


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
    if (pages := field_of(image, "n-pages", 1)) > 1:
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
    turn = field_of(image, "orientation", exif.orientation(metadata.exif))
    turn = turn if 1 <= turn <= 8 else 1
    colors, alpha = parted(image, name)
    bits = 8 if image.format == "uchar" else 16
    colors, more = to_srgb(colors, name)
    joined = colors if alpha is None else colors.bandjoin(alpha)
    levels = _planes(joined, turn, salvage)
    upright = metadata.upright(levels.shape[:0:-1], quarter=turn > 4)
    if metadata.exif and not upright.exif:
        warnings += ("its EXIF is damaged and is left out",)
    transparency = None
    if alpha is not None:
        transparency = levels[-1].astype(STORED[alpha.format], copy=False)
        levels = levels[:-1]
    return Original(levels, bits, transparency, upright, warnings + more)


def _planes(image: pyvips.Image, turn: int, salvage: bool) -> np.ndarray:
    """The channels (bands, H, W) of a picture turned upright, decoded once from top to bottom.

    With `salvage` what can no longer be decoded stays black.
    """
    across, down = (image.height, image.width) if turn > 4 else (image.width, image.height)
    upright = np.zeros((image.bands, down, across), STORED[image.format])
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
        yield np.frombuffer(content, STORED[image.format]).reshape(some, image.width, image.bands)


def _metadata(image: pyvips.Image, photo: Any, kind: str) -> tuple[Metadata, tuple[str, ...]]:
    def block(name: str) -> bytes:
        return bytes(field_of(image, name, b""))

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
                return labelled(levels), Metadata(), ()
        file.seek(0)
        tags = exif.from_tiff(file) if kind == "tiff" else b""
        file.seek(0)
        with Image.open(file, formats=FORMATS) as opened:
            _check_size(*opened.size, name)
            image = labelled(stored_levels(opened))
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
    image = labelled(levels)
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
