"""EXIF: the tags of a photo, in the form of a TIFF file (TIFF 6.0, EXIF 2.32).

`upright` keeps an EXIF block byte by byte, so that what points into it (makers' notes) stays
right. `from_tiff` and `into_tiff` move tags out of and into TIFF files, whose own tags they are.
"""

import io
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO, TypeAlias

import numpy as np

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_UNITS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}  # bytes that change places
ORIENTATION = 0x0112
_EXIF, _WIDTH, _HEIGHT = 0x8769, 0xA002, 0xA003
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_FOLDERS = (_EXIF, 0x8825, 0xA005)  # tags that point to tags: EXIF, GPS, interoperability
_LARGEST = 1 << 24  # bytes of a tag
# Tags that describe how a TIFF file stores its pixels, or that `Metadata` holds in other fields.
_OF_PIXELS = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, ORIENTATION, 277, 278, 279, 280),
    *(281, 284, 288, 289, 290, 291, 292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324),
    *(325, 330, 332, 334, 338, 339, 340, 341, 342, 343, 346, 347, 512, 513, 514, 515, 517, 518),
    *(519, 520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675, 50341),
}
_XMP, _IPTC = 700, 33723

Tags: TypeAlias = "dict[int, tuple[int, int, bytes] | Tags]"
"""Type, count and value of each tag, least byte first; or the tags that a tag points to."""


def upright(exif: bytes, size: tuple[int, int]) -> bytes:
    """An EXIF block (without "Exif" before it) for the picture turned upright, of (width, height).

    Orientation becomes 1, width and height are those given, the thumbnail goes. All else keeps its
    place. An empty block if this one cannot be understood.
    """
    block = bytearray(exif)
    try:
        order, start = _head(block)
        places, after = _places(block, order, start)
        if ORIENTATION in places:
            _put(block, order, places[ORIENTATION], 1)
        if _EXIF in places:
            inner, _ = _places(block, order, _get(block, order, places[_EXIF]))
            for tag, pixels in zip((_WIDTH, _HEIGHT), size, strict=True):
                if tag in inner:
                    _put(block, order, inner[tag], pixels)
        following = struct.unpack_from(order + "I", block, after)[0]
        struct.pack_into(order + "I", block, after, 0)
    except (struct.error, KeyError):
        return b""
    with suppress(struct.error, KeyError):  # a thumbnail that is not there need not be removed
        places, _ = _places(block, order, following)
        first = _get(block, order, places[_THUMBNAIL])
        last = min(first + _get(block, order, places[_THUMBNAIL_BYTES]), len(block))
        block[first:last] = bytes(last - first) if last < len(block) else b""
    return bytes(block)


def orientation(exif: bytes) -> int:
    """How the picture is turned, 1 to 8, by an EXIF block; 1 if it does not say."""
    block = bytearray(exif)
    with suppress(struct.error, KeyError):
        order, start = _head(block)
        places, _ = _places(block, order, start)
        turn = _get(block, order, places[ORIENTATION])
        return turn if 1 <= turn <= 8 else 1
    return 1


def without_orientation(exif: bytes) -> bytes:
    """An EXIF block less its orientation, for encoders that would turn the picture by it."""
    block = bytearray(exif)
    with suppress(struct.error, KeyError):
        order, start = _head(block)
        places, after = _places(block, order, start)
        place = places[ORIENTATION]
        block[place : after + 4] = block[place + 12 : after + 4] + bytes(12)
        struct.pack_into(order + "H", block, start, len(places) - 1)
    return bytes(block)


def from_tiff(file: BinaryIO) -> bytes:
    """A TIFF file's own tags as an EXIF block, without those that describe its pixels.

    An empty block if there are none, or the file is a BigTIFF.
    """
    try:
        order, start = _head(file.read(8))
        tags = _tags(file, order, start)
    except (struct.error, KeyError, OSError):
        return b""
    kept: Tags = {tag: value for tag, value in tags.items() if tag not in _OF_PIXELS}
    return b"II*\0\x08\0\0\0" + _packed(kept, 8) if kept else b""


def into_tiff(path: str | os.PathLike[str], exif: bytes, *, xmp: bytes, iptc: bytes) -> None:
    """Give a little-endian TIFF file the tags of an EXIF block and, where there are any, of others.

    The file's own description of its pixels stays; its new list of tags goes to its end.
    """
    with open(path, "r+b") as file:
        order, start = _head(file.read(8))
        tags: Tags = {}
        with suppress(struct.error, KeyError):
            source = io.BytesIO(exif)
            tags = _tags(source, *_head(source.read(8)))
        tags = {tag: value for tag, value in tags.items() if tag not in _OF_PIXELS}
        resolution = {282, 283, 296} if 282 in tags else set()
        own = _tags(file, order, start)
        tags |= {tag: value for tag, value in own.items() if tag not in resolution}
        for tag, content in ((_XMP, xmp), (_IPTC, iptc)):
            if content:
                tags[tag] = (7, len(content), content)
        end = file.seek(0, os.SEEK_END)
        file.write(bytes(end % 2))
        place = end + end % 2
        file.write(_packed(tags, place))
        file.seek(4)
        file.write(struct.pack("<I", place))


def _head(block: bytes | bytearray) -> tuple[str, int]:
    """Byte order and the place of the first tags."""
    order = {b"II*\0": "<", b"MM\0*": ">"}[bytes(block[:4])]
    return order, struct.unpack_from(order + "I", block, 4)[0]


def _places(block: bytearray, order: str, start: int) -> tuple[dict[int, int], int]:
    """Where each tag's entry begins, and where the pointer to the next list is."""
    (count,) = struct.unpack_from(order + "H", block, start)
    entries = (start + 2 + 12 * number for number in range(count))
    places = {struct.unpack_from(order + "H", block, place)[0]: place for place in entries}
    return places, start + 2 + 12 * count


def _form(block: bytearray, order: str, place: int) -> str:
    """How a tag's one number is packed."""
    return order + {3: "H", 4: "I", 13: "I"}[struct.unpack_from(order + "H", block, place + 2)[0]]


def _get(block: bytearray, order: str, place: int) -> int:
    return struct.unpack_from(_form(block, order, place), block, place + 8)[0]


def _put(block: bytearray, order: str, place: int, number: int) -> None:
    form = _form(block, order, place)
    if number < 1 << (8 * struct.calcsize(form)):
        struct.pack_into(form, block, place + 8, number)


def _tags(file: BinaryIO, order: str, start: int, depth: int = 0) -> Tags:
    """The tags of a list; those that cannot be read are left out."""
    file.seek(start)
    (count,) = struct.unpack(order + "H", file.read(2))
    entries = file.read(12 * count)
    tags: Tags = {}
    for tag, kind, number, value in struct.iter_unpack(order + "HHI4s", entries):
        size = _SIZES.get(kind, 0) * number
        if not 0 < size <= _LARGEST:
            continue
        if size > 4:
            file.seek(struct.unpack(order + "I", value)[0])
            value = file.read(size)
        content = value[:size]
        if len(content) < size:
            continue
        if order == ">" and kind in _UNITS:
            content = np.frombuffer(content, f">u{_UNITS[kind]}").byteswap().tobytes()
        if tag not in _FOLDERS:
            tags[tag] = (kind, number, content)
        elif depth < 2:
            with suppress(struct.error):
                (inner,) = struct.unpack("<I", content[:4])
                tags[tag] = _tags(file, order, inner, depth + 1)
    return tags


def _packed(tags: Mapping, start: int) -> bytes:
    """A list of tags as it will stand at `start`, and behind it what it points to."""
    entries, behind = [struct.pack("<H", len(tags))], bytearray()
    end = start + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, dict):
            place = end + len(behind)
            behind += _packed(value, place)
            entry = struct.pack("<HHII", tag, 4, 1, place)
        else:
            kind, number, content = value
            entry = struct.pack("<HHI", tag, kind, number)
            if len(content) <= 4:
                entry += content.ljust(4, b"\0")
            else:
                entry += struct.pack("<I", end + len(behind))
                behind += content
        behind += bytes(len(behind) % 2)
        entries.append(entry)
    return b"".join(entries) + struct.pack("<I", 0) + bytes(behind)
