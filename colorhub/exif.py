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
_WIDE = {16: 8, 17: 8, 18: 8}  # kinds that BigTIFF alone has: numbers of 8 bytes
_UNITS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}  # bytes that change places
ORIENTATION = 0x0112
_EXIF, _WIDTH, _HEIGHT = 0x8769, 0xA002, 0xA003
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_FOLDERS = (_EXIF, 0x8825, 0xA005)  # tags that point to tags: EXIF, GPS, interoperability
_LARGEST = 1 << 24  # bytes of a tag
_ALL = 1 << 26  # bytes of all tags together, which may overlap
_MOST = 4096  # tags in a list
# Tags that describe how a TIFF file stores its pixels, or that `Metadata` holds in other fields.
_OF_PIXELS = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, ORIENTATION, 277, 278, 279, 280),
    *(281, 284, 288, 289, 290, 291, 292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324),
    *(325, 330, 332, 334, 338, 339, 340, 341, 342, 343, 346, 347, 512, 513, 514, 515, 517, 518),
    *(519, 520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675, 37724, 50341),
}
_XMP, _IPTC = 700, 33723

Tags: TypeAlias = "dict[int, tuple[int, int, bytes] | Tags]"
"""Type, count and value of each tag, least byte first; or the tags that a tag points to."""


def upright(exif: bytes, size: tuple[int, int], *, quarter: bool = False) -> bytes:
    """An EXIF block (without "Exif" before it) for the picture turned upright, of (width, height).

    Orientation becomes 1, width and height are those given, the thumbnail goes, and where it was
    turned by a `quarter` resolutions across and down change places. All else keeps its place. An
    empty block if this one cannot be understood.
    """
    block = bytearray(exif)
    try:
        order, start = _head(block)
        places, after = _places(block, order, start)
        if ORIENTATION in places:
            _put(block, order, places[ORIENTATION], 1)
        if quarter and {282, 283} <= set(places):
            across, down = (slice(places[tag] + 2, places[tag] + 12) for tag in (282, 283))
            block[across], block[down] = block[down], block[across]
        if _EXIF in places:
            inner, _ = _places(block, order, _get(block, order, places[_EXIF]))
            for tag, pixels in zip((_WIDTH, _HEIGHT), size, strict=True):
                if tag in inner:
                    _put(block, order, inner[tag], pixels)
    except (struct.error, KeyError):
        return b""
    with suppress(struct.error, KeyError):  # a thumbnail that is not there need not be removed
        following = struct.unpack_from(order + "I", block, after)[0]
        struct.pack_into(order + "I", block, after, 0)
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


def with_resolution(exif: bytes, dpi: tuple[float, float]) -> bytes:
    """An EXIF block (an empty one, too) that says pixels per inch across and down, if it can.

    The list of its tags moves to its end with three more; what they point to keeps its place.
    """
    block = bytearray(exif or b"II*\0\x08\0\0\0\0\0\0\0\0\0")
    try:
        order, start = _head(block)
        places, after = _places(block, order, start)
        entries = {tag: bytes(block[place : place + 12]) for tag, place in places.items()}
        following = bytes(block[after : after + 4]).ljust(4, b"\0")
    except (struct.error, KeyError):
        return exif
    block += bytes(len(block) % 2)
    for tag, each in zip((282, 283), dpi, strict=True):
        entries[tag] = struct.pack(order + "HHII", tag, 5, 1, len(block))
        block += struct.pack(order + "II", min(round(each * 1000), 2**32 - 1), 1000)
    entries[296] = struct.pack(order + "HHIHH", 296, 3, 1, 2, 0)
    struct.pack_into(order + "I", block, 4, len(block))
    block += struct.pack(order + "H", len(entries))
    return bytes(block) + b"".join(entries[tag] for tag in sorted(entries)) + following


def resolution(exif: bytes) -> tuple[float, float] | None:
    """Pixels per inch across and down by an EXIF block; None if it does not say."""
    tags = _all_tags(io.BytesIO(exif))
    across, down, unit = (_content_of(tags, tag) for tag in (282, 283, 296))
    with suppress(struct.error, ZeroDivisionError):
        each = [above / below for above, below in map(struct.Struct("<II").unpack, (across, down))]
        # Of an inch, which is the default, or a centimetre; of another length nothing is known.
        inch = {2: 1.0, 3: 2.54}.get(int.from_bytes(unit or b"\2", "little"), 0.0)
        return (each[0] * inch, each[1] * inch) if min(each) * inch > 0 else None
    return None


def from_tiff(file: BinaryIO) -> bytes:
    """A TIFF file's own tags as an EXIF block, without those that describe its pixels.

    An empty block if there are none.
    """
    tags = _all_tags(file)
    kept: Tags = {tag: value for tag, value in tags.items() if tag not in _OF_PIXELS}
    return b"II*\0\x08\0\0\0" + _packed(kept, 8) if kept else b""


def is_bomb(file: BinaryIO) -> bool:
    """Whether a TIFF file's first tags are said to be much longer than it is: they overlap."""
    reader, start = _reader(file)
    if reader is None:
        return False
    size = file.seek(0, os.SEEK_END)
    with suppress(struct.error, OSError, OverflowError):
        claimed = sum(reader.sizes.get(kind, 0) * number for _, kind, number, _ in
                      reader.entries(start, 1 << 16))  # fmt: skip
        return claimed > 4 * size + _ALL
    return False


def holds_luma(file: BinaryIO) -> bool:
    """Whether a TIFF file stores luma and chroma but no JPEG: libvips takes them for RGB."""
    tags = _all_tags(file)
    jpeg = _content_of(tags, 259) in (b"\6\0", b"\7\0")
    return _content_of(tags, 262) == b"\6\0" and not jpeg


def into_tiff(
    path: str | os.PathLike[str], exif: bytes, *, xmp: bytes, iptc: bytes, sized: bool = True
) -> None:
    """Give a little-endian TIFF file the tags of an EXIF block and, where there are any, of others.

    The file's own description of its pixels stays, and its resolution if it is `sized`; its new
    list of tags goes to its end.
    """
    with open(path, "r+b") as file:
        tags = _all_tags(io.BytesIO(exif))
        tags = {tag: value for tag, value in tags.items() if tag not in _OF_PIXELS}
        replaced = {282, 283, 296} if 282 in tags else set()
        own = _all_tags(file)
        if not sized:
            own[296] = (3, 1, b"\1\0")  # the encoder makes one up
        tags |= {tag: value for tag, value in own.items() if tag not in replaced}
        for tag, content in ((_XMP, xmp), (_IPTC, iptc)):
            if content:
                tags[tag] = (1, len(content), content)
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
    return (
        order
        + {1: "B", 3: "H", 4: "I", 13: "I"}[struct.unpack_from(order + "H", block, place + 2)[0]]
    )


def _get(block: bytearray, order: str, place: int) -> int:
    return struct.unpack_from(_form(block, order, place), block, place + 8)[0]


def _put(block: bytearray, order: str, place: int, number: int) -> None:
    form = _form(block, order, place)
    if number < 1 << (8 * struct.calcsize(form)):
        struct.pack_into(form, block, place + 8, number)


def _all_tags(file: BinaryIO) -> Tags:
    """The tags of a TIFF file or an EXIF block; none if it is neither."""
    reader, start = _reader(file)
    with suppress(struct.error, OSError, OverflowError):
        return reader.tags(start) if reader else {}
    return {}


def _reader(file: BinaryIO) -> tuple["_Reader | None", int]:
    """What reads the tags of a TIFF file or an EXIF block, and where they begin."""
    file.seek(0)
    head = file.read(16)
    with suppress(struct.error, KeyError):
        if head[:4] in (b"II+\0", b"MM\0+"):
            order = "<" if head[:2] == b"II" else ">"
            return _Reader(file, order, wide=True), struct.unpack_from(order + "Q", head, 8)[0]
        order, start = _head(head)
        return _Reader(file, order, wide=False), start
    return None, 0


def _content_of(tags: Tags, tag: int) -> bytes:
    """A tag's value; empty if it is not there."""
    value = tags.get(tag)
    return value[2] if isinstance(value, tuple) else b""


class _Reader:
    """Reads lists of tags, of damaged files as well: in bounded memory and time."""

    def __init__(self, file: BinaryIO, order: str, *, wide: bool) -> None:
        self.file, self.order = file, order
        self.sizes = _SIZES | _WIDE if wide else _SIZES
        self.count, self.place = (order + "Q", order + "Q") if wide else (order + "H", order + "I")
        self.entry = struct.Struct(order + ("HHQ8s" if wide else "HHI4s"))
        self.inline = 8 if wide else 4
        self.left = _ALL

    def entries(self, start: int, most: int = _MOST) -> list[tuple[int, int, int, bytes]]:
        """Tag, kind, number and value or place of each in a list."""
        self.file.seek(start)
        (count,) = struct.unpack(self.count, self.file.read(struct.calcsize(self.count)))
        entries = self.file.read(self.entry.size * min(count, most))
        self.left -= 16 * len(entries)  # they take time, too, and may lead in circles
        whole = len(entries) // self.entry.size * self.entry.size
        return list(self.entry.iter_unpack(entries[:whole]))

    def tags(self, start: int, depth: int = 0) -> Tags:
        """The tags of a list; those that cannot be read are left out."""
        tags: Tags = {}
        for tag, kind, number, value in self.entries(start):
            content = self._content(kind, number, value)
            if tag in _FOLDERS:
                if content and depth < 2:
                    with suppress(struct.error, OSError, OverflowError):
                        place = int.from_bytes(content[: self.sizes[kind]], "little")
                        tags[tag] = self.tags(place, depth + 1)
            elif content and kind not in _WIDE:  # those have no place in EXIF
                tags.setdefault(tag, (kind, number, content))
        return tags

    def _content(self, kind: int, number: int, value: bytes) -> bytes:
        """A tag's value, least byte first; empty if it cannot be read."""
        size = self.sizes.get(kind, 0) * number
        if not 0 < size <= min(_LARGEST, self.left):
            return b""
        if size > self.inline:
            self.left -= size
            with suppress(OSError, OverflowError):
                self.file.seek(struct.unpack(self.place, value)[0])
            value = self.file.read(size)
        content = value[:size]
        if len(content) < size:
            return b""
        unit = _UNITS.get(kind, 8 if kind in _WIDE else 1)
        if self.order == ">" and unit > 1:
            content = np.frombuffer(content, f">u{unit}").byteswap().tobytes()
        return content


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
