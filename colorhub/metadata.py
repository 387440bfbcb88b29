"""What a photo's file says of it besides its pixels, and how that enters the files we write."""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import md5
from typing import BinaryIO
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from colorhub import exif as exif_tags

_JPEG_MOST = 65533  # bytes that fit in a segment behind its length
_XMP_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_IPTC_JPEG = b"Photoshop 3.0\0"
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"  # then its MD5, whole length and place
_MORE_MOST = 65400  # bytes of it in a segment
_XMP_PNG = b"XML:com.adobe.xmp"
_IPTC_PNG = b"Raw profile type iptc"  # PNG has no place for it; this is ImageMagick's, widely read
_IPTC_RESOURCE = 0x0404
_LONGEST = 1 << 24  # bytes of a text
_ALL_TEXTS = 1 << 26  # bytes of all texts together: packed ones may be bombs
_COMMENTS = 1000  # the first of a file
_CHUNKS = 20_000  # of a PNG file besides its pixels: its decoder's time grows with their square
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "
_EMPTY_XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>'
    b'</x:xmpmeta><?xpacket end="w"?>'
)
_EXTENDED = (
    b'><rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
    b'xmpNote:HasExtendedXMP="%s"/></rdf:RDF>'
)
# IPTC's word for pictures that an algorithm changed, and our own for which one it was.
_ENHANCED = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
_NOTE = (
    '<rdf:Description xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" rdf:about={} '
    'xmlns:colorhub="urn:colorhub:1.0" colorhub:Note={} '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="' + _ENHANCED + '"/>'
)
_NOTED = re.compile(  # what a note says, where a photo has it already: nothing is said twice
    rb"""\s(?:colorhub:Note|[\w.-]+:DigitalSourceType)\s*=\s*(?:"[^"<]*"|'[^'<]*')"""
    rb"""|<(colorhub:Note|[\w.-]+:DigitalSourceType)(?:\s[^<>]*)?>[^<]*</\1\s*>"""
)


_TAG = re.compile(rb"""<([\w.:-]+)(?:[^<>"']|"[^"]*"|'[^']*')*>""")


@dataclass(frozen=True)
class Metadata:
    """What goes with a photo from file to file."""

    exif: bytes = b""
    """TIFF structure, as EXIF has it."""
    xmp: bytes = b""
    """An XMP packet."""
    iptc: bytes = b""
    """IPTC-IIM records."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch across and down."""
    comments: tuple[tuple[str, str], ...] = ()
    """Keywords, which may be empty, and texts: of PNG and JPEG files."""
    lossless: bool = False
    """Whether it came from a WebP file that keeps every level, as then its result does."""

    def upright(self, size: tuple[int, int], *, quarter: bool) -> "Metadata":
        """For the picture turned upright, of (width, height); `quarter`: by 90 or 270 degrees."""
        xmp = re.sub(
            rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)[0-9](?=\s*["'<])""", rb"\g<1>1", self.xmp
        )
        dpi = self.dpi[::-1] if self.dpi and quarter else self.dpi
        tags = exif_tags.upright(self.exif, size, quarter=quarter)
        return replace(self, exif=tags, xmp=xmp, dpi=dpi)

    def noting(self, text: str) -> "Metadata":
        """With a note in XMP of how the colours came about; unchanged where XMP is damaged."""
        cleaned = _NOTED.sub(b"", self.xmp)
        xmp = cleaned if _rdf(cleaned) else self.xmp
        rdf = _rdf(xmp)
        if rdf is None and xmp.strip(b"\0 \r\n\t"):
            return self
        if rdf is None:
            xmp = _EMPTY_XMP
            rdf = _rdf(xmp)
        assert rdf is not None
        text = "".join(each for each in text if each.isprintable())
        note = _NOTE.format(quoteattr(rdf.about), quoteattr(text)).encode("utf-8", "replace")
        return replace(self, xmp=rdf.with_inside(xmp, note))


@dataclass
class _Rdf:
    """Where in an XMP packet its properties are."""

    name: bytes = b""
    about: str = ""
    start: int = -1
    inside: int = -1
    end: int = -1

    def with_inside(self, xmp: bytes, more: bytes) -> bytes:
        """The packet with more at the end of its properties."""
        if xmp[self.inside - 2 : self.inside] != b"/>":
            return xmp[: self.end] + more + xmp[self.end :]
        opened = xmp[: self.inside - 2] + b">"  # it was <rdf:RDF ... />, which is empty
        return opened + more + b"</" + self.name + b">" + xmp[self.inside :]


def _rdf(xmp: bytes) -> _Rdf | None:
    """Where an XMP packet's properties are; None if it has none, or is no XML."""
    found, parser = _Rdf(), expat.ParserCreate(namespace_separator=" ")

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == _RDF + "RDF" and found.start < 0:
            found.start = parser.CurrentByteIndex
        elif name == _RDF + "Description" and found.start >= 0:
            found.about = found.about or attributes.get(_RDF + "about", "")

    def end(name: str) -> None:
        if name == _RDF + "RDF" and found.end < 0:
            found.end = parser.CurrentByteIndex

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(xmp.rstrip(b"\0"), True)
    except (expat.ExpatError, ValueError):
        return None
    if found.end < 0:
        return None
    tag = _TAG.match(xmp, found.start)
    if tag is None:
        return None
    found.name, found.inside = tag[1], tag.end()
    return found


def in_utf8(xmp: bytes | str) -> bytes:
    """An XMP packet in UTF-8, in which most formats want it, whatever it came in."""
    if isinstance(xmp, str):
        return xmp.encode("utf-8", "replace")
    start = xmp[:4]
    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\0": "utf-16-le"}
    marks |= {b"\0<": "utf-16-be"}
    coding = next((coding for mark, coding in marks.items() if start.startswith(mark)), None)
    coding = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32"}.get(start, coding)
    if coding is None:
        return xmp
    with suppress(UnicodeDecodeError):
        text = xmp.decode(coding)
        return re.sub(r"^(<\?xml[^>]*?)\sencoding=[\"'][^\"']*[\"']", r"\1", text).encode()
    return xmp


def iptc_of(block: bytes) -> bytes:
    """The IPTC records in a block of Photoshop's resources, or of records alone."""
    if not block.startswith((_IPTC_JPEG, b"8BIM")):
        return block.rstrip(b"\0")  # TIFF files fill it up to whole words
    place = len(_IPTC_JPEG) if block.startswith(_IPTC_JPEG) else 0
    while block[place : place + 4] == b"8BIM" and place + 12 <= len(block):
        (resource,) = struct.unpack_from(">H", block, place + 4)
        place += 6 + (block[place + 6] + 2) // 2 * 2  # a name, filled up to an even length
        (size,) = struct.unpack_from(">I", block.ljust(place + 4, b"\0"), place)
        if resource == _IPTC_RESOURCE:
            return block[place + 4 : place + 4 + size]
        place += 4 + size + size % 2
    return b""


@dataclass
class Found:
    """What was found in a file's own places for texts and such."""

    comments: tuple[tuple[str, str], ...] = ()
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    dpi: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()


def in_jpeg(file: BinaryIO, xmp: bytes) -> Found:
    """A JPEG file's comments, resolution, and all of its XMP, of which one segment is given."""
    found, more = Found(xmp=xmp), {}
    for marker, content in _segments(file):
        if marker == 0xFE and len(found.comments) < _COMMENTS:
            found.comments += (("", content.rstrip(b"\0").decode("utf-8", "replace")),)
        elif marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 12:
            unit, across, down = struct.unpack_from(">BHH", content, 7)
            if unit in (1, 2) and across and down:
                inch = 2.54 if unit == 2 else 1
                found.dpi = (across * inch, down * inch)
        elif marker == 0xE1 and content.startswith(_XMP_MORE):
            name, _, place = struct.unpack_from(">32sII", content.ljust(75, b"\0"), len(_XMP_MORE))
            if name in xmp:
                more[place] = content[len(_XMP_MORE) + 40 :]
    if more:
        joined = _joined(xmp, b"".join(part for _, part in sorted(more.items())))
        found.xmp = joined or xmp
        if joined is None:
            found.warnings = ("its XMP is damaged: the part beyond 64 kB is left out",)
    return found


def _segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The markers and contents of a JPEG file's segments before its pixels."""
    file.seek(2)
    left = _ALL_TEXTS
    while left > 0 and len(head := file.read(4)) == 4:
        lead, marker, size = struct.unpack(">BBH", head)
        if lead != 0xFF or marker == 0xDA or size < 2:
            return
        yield marker, file.read(size - 2)
        left -= size


def _joined(xmp: bytes, more: bytes) -> bytes | None:
    """One XMP packet of the two that JPEG files have; None if one is damaged."""
    xmp = re.sub(rb"""\s[\w.-]+:HasExtendedXMP\s*=\s*["']\w*["']""", b"", xmp)
    main, other = _rdf(xmp), _rdf(more)
    if main is None or other is None:
        return None
    inside = more[other.inside : other.end] if other.end >= other.inside else b""
    joined = main.with_inside(xmp, inside)
    return joined if _rdf(joined) else None


def is_png_bomb(file: BinaryIO) -> bool:
    """Whether a PNG file has so many chunks besides its pixels that decoders take minutes."""
    file.seek(8)
    others = 0
    while others <= _CHUNKS and len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        others += kind != b"IDAT"
        file.seek(size + 4, os.SEEK_CUR)
    return others > _CHUNKS


def in_png(file: BinaryIO) -> Found:
    """A PNG file's comments and resolution, and its EXIF, which may be behind the pixels."""
    found, left = Found(), _ALL_TEXTS
    file.seek(8)
    while len(head := file.read(8)) == 8 and left > 0:
        size, kind = struct.unpack(">I4s", head)
        left -= 12
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"pHYs") or size > min(_LONGEST, left):
            file.seek(size + 4, os.SEEK_CUR)
            continue
        content = file.read(size)
        file.seek(4, os.SEEK_CUR)
        if kind == b"eXIf":
            found.exif = content.removeprefix(b"Exif\0\0")
        elif kind == b"pHYs" and size == 9 and content[8] == 1:
            across, down = struct.unpack_from(">II", content)
            found.dpi = (across * 0.0254, down * 0.0254) if across and down else None
        elif kind != b"pHYs":
            left -= _add_text(found, kind, content)
        left -= size
    return found


def _add_text(found: Found, kind: bytes, content: bytes) -> int:
    """Put a text chunk where it belongs; the bytes that its text has."""
    keyword, text, coding = _png_text(kind, content)
    if keyword.startswith(b"Raw profile type "):
        _add_raw(found, keyword[17:], text)
    elif keyword == _XMP_PNG:
        found.xmp = text
    elif (text or kind == b"tEXt") and len(found.comments) < _COMMENTS:
        found.comments += ((keyword.decode("latin-1"), text.decode(coding, "replace")),)
    return len(text)


def _png_text(kind: bytes, content: bytes) -> tuple[bytes, bytes, str]:
    """Keyword, text and coding of a text chunk; the text is empty if it is damaged."""
    keyword, _, text = content.partition(b"\0")
    if kind == b"tEXt":
        return keyword, text, "latin-1"
    packed, text = kind == b"zTXt", text[1:]
    if kind == b"iTXt":
        packed = content[len(keyword) + 1 : len(keyword) + 2] == b"\1"
        text = text[1:].split(b"\0", 2)[-1]
    if packed:
        try:
            text = zlib.decompressobj().decompress(text, _LONGEST)
        except zlib.error:
            text = b""
    return keyword, text, "utf-8" if kind == b"iTXt" else "latin-1"


def _add_raw(found: Found, kind: bytes, text: bytes) -> None:
    """A block in hexadecimal digits, behind a name and a length, a line each: ImageMagick's."""
    with suppress(ValueError):
        block = bytes.fromhex(text.decode("latin-1").strip().split("\n", 2)[-1])
        if kind == b"iptc":
            found.iptc = block
        elif kind == b"xmp":
            found.xmp = block
        elif kind in (b"exif", b"APP1") and block.startswith(b"Exif\0\0"):
            found.exif = found.exif or block[6:]
        elif kind == b"APP1" and block.startswith(_XMP_JPEG):
            found.xmp = block[len(_XMP_JPEG) :]


def webp_is_lossless(file: BinaryIO) -> bool:
    """Whether a WebP file keeps every level of its picture."""
    file.seek(12)
    for _ in range(16):  # profile and such may be before the picture
        kind, size = file.read(4), int.from_bytes(file.read(4), "little")
        if kind in (b"VP8L", b"VP8 ", b""):
            return kind == b"VP8L"
        file.seek(size + size % 2, os.SEEK_CUR)
    return False


def jpeg_head(head: bytes, metadata: Metadata) -> tuple[bytes, list[str]]:
    """A JPEG file's first bytes with metadata, and the names of what is too long for the format."""
    blocks = {
        "EXIF": (0xE1, b"Exif\0\0", metadata.exif),
        "IPTC": (0xED, _IPTC_JPEG, _resource(metadata.iptc)),
    }
    across, down = (min(round(each), 65535) for each in metadata.dpi or (1, 1))
    unit = 1 if metadata.dpi else 0  # pixels an inch, or no unit
    made = _segment(0xE0, struct.pack(">5sHBHHBB", b"JFIF\0", 0x0102, unit, across, down, 0, 0))
    too_long = []
    for name, (marker, before, block) in blocks.items():
        if block and len(before) + len(block) <= _JPEG_MOST:
            made += _segment(marker, before + block)
        elif block:
            too_long.append(name)
    made += _xmp_segments(metadata.xmp)
    for _, text in metadata.comments:
        made += _segment(0xFE, text.encode("utf-8", "replace")[:_JPEG_MOST])
    start = 2
    if head[2:4] == b"\xff\xe0":  # the encoder's own, which ours replaces
        start += 2 + struct.unpack_from(">H", head, 4)[0]
    return head[:2] + made + head[start:], too_long


def _xmp_segments(xmp: bytes) -> bytes:
    """XMP of any length: what one segment cannot hold goes into more (XMP, part 3, 1.1.3.1)."""
    if not xmp:
        return b""
    if len(_XMP_JPEG) + len(xmp) <= _JPEG_MOST:
        return _segment(0xE1, _XMP_JPEG + xmp)
    xmp = re.sub(rb"<\?xpacket[^>]*\?>", b"", xmp).strip()
    name = md5(xmp, usedforsecurity=False).hexdigest().upper().encode()
    main = _EMPTY_XMP.replace(b"></rdf:RDF>", _EXTENDED % name)
    segments = _segment(0xE1, _XMP_JPEG + main)
    for place in range(0, len(xmp), _MORE_MOST):
        head = _XMP_MORE + name + struct.pack(">II", len(xmp), place)
        segments += _segment(0xE1, head + xmp[place : place + _MORE_MOST])
    return segments


def png_chunks(metadata: Metadata) -> bytes:
    """The chunks of a PNG file that hold metadata, to stand before its pixels."""
    chunks = []
    if metadata.dpi:
        across, down = (round(each / 0.0254) for each in metadata.dpi)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    if metadata.exif:
        chunks.append(_chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append(_chunk(b"iTXt", _XMP_PNG + bytes(5) + metadata.xmp))
    if metadata.iptc:
        block = _resource(metadata.iptc)
        text = f"\niptc\n{len(block):8}\n".encode() + block.hex().encode() + b"\n"
        chunks.append(_chunk(b"zTXt", _IPTC_PNG + bytes(2) + zlib.compress(text)))
    for keyword, comment in metadata.comments:
        word = keyword.encode("latin-1", "replace")[:79] or b"Comment"
        text = comment.encode("utf-8", "replace").replace(b"\0", b"")
        chunks.append(_chunk(b"iTXt", word + bytes(5) + text))
    return b"".join(chunks)


def png_head(head: bytes, metadata: Metadata) -> bytes:
    """A PNG file's bytes before its pixels, with metadata."""
    place, kept = 8, [head[:8]]
    while place < len(head):
        size = 12 + struct.unpack_from(">I", head, place)[0]
        if head[place + 4 : place + 8] != b"pHYs":  # the encoder's, which ours replaces
            kept.append(head[place : place + size])
        place += size
    return b"".join((*kept, png_chunks(metadata)))


def _resource(iptc: bytes) -> bytes:
    if not iptc:
        return b""
    head = struct.pack(">4sHHI", b"8BIM", _IPTC_RESOURCE, 0, len(iptc))
    return head + iptc + bytes(len(iptc) % 2)


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
