"""What a photo's file says of it besides its pixels, and how that enters the files we write."""

import os
import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

from colorhub import exif as exif_tags

_JPEG_MOST = 65533  # bytes that fit in a segment behind its length
_XMP_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_IPTC_JPEG = b"Photoshop 3.0\0"
_XMP_PNG = b"XML:com.adobe.xmp"
_IPTC_PNG = b"Raw profile type iptc"  # PNG has no place for it; this is ImageMagick's, widely read
_IPTC_RESOURCE = 0x0404
_LONGEST = 1 << 20  # bytes of a comment
_EMPTY_XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>'
    b'</x:xmpmeta><?xpacket end="w"?>'
)
# IPTC's word for pictures that an algorithm changed, and our own for which one it was.
_ENHANCED = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
_NOTE = (
    '<rdf:Description rdf:about="" xmlns:colorhub="urn:colorhub:1.0" colorhub:Note={} '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="' + _ENHANCED + '"/></rdf:RDF>'
)


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

    def upright(self, size: tuple[int, int], *, quarter: bool) -> "Metadata":
        """For the picture turned upright, of (width, height); `quarter`: by 90 or 270 degrees."""
        xmp = re.sub(rb"""(tiff:Orientation(?:=["']|>))[0-9](?=["'<])""", rb"\g<1>1", self.xmp)
        dpi = self.dpi[::-1] if self.dpi and quarter else self.dpi
        return replace(self, exif=exif_tags.upright(self.exif, size), xmp=xmp, dpi=dpi)

    def noting(self, text: str) -> "Metadata":
        """With a note in XMP of how the colours came about."""
        xmp = self.xmp if b"</rdf:RDF>" in self.xmp else _EMPTY_XMP
        note = _NOTE.format(quoteattr(text)).encode()
        return replace(self, xmp=note.join(xmp.rsplit(b"</rdf:RDF>", 1)))


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


def jpeg_comments(content: bytes) -> tuple[tuple[str, str], ...]:
    """The comments at the head of a JPEG file."""
    comments, place = [], 2
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != b"\xda":
        (size,) = struct.unpack(">H", content[place + 2 : place + 4].rjust(2, b"\0"))
        if content[place + 1] == 0xFE:
            text = content[place + 4 : place + 2 + size]
            comments.append(("", text.rstrip(b"\0").decode("utf-8", "replace")))
        place += 2 + max(size, 2)
    return tuple(comments)


def png_texts(file: BinaryIO) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """The text chunks of a PNG file that are comments, and the block of IPTC in one of them."""
    comments, iptc = [], b""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind not in (b"tEXt", b"zTXt", b"iTXt") or size > _LONGEST:
            file.seek(size + 4, os.SEEK_CUR)
            continue
        keyword, _, text = file.read(size).partition(b"\0")
        file.seek(4, os.SEEK_CUR)
        coding, packed = "latin-1", kind == b"zTXt"
        text = text[1:] if packed else text
        if kind == b"iTXt":
            coding, packed = "utf-8", text[:1] == b"\1"
            text = text[2:].split(b"\0", 2)[-1]
        with suppress(zlib.error):
            text = zlib.decompressobj().decompress(text, _LONGEST) if packed else text
            if keyword == _IPTC_PNG:
                with suppress(ValueError):  # behind a name and a length, a line each
                    iptc = bytes.fromhex(text.decode("latin-1").strip().split("\n", 2)[-1])
            elif keyword != _XMP_PNG and not keyword.startswith(b"Raw profile type"):
                comments.append((keyword.decode("latin-1"), text.decode(coding, "replace")))
    return tuple(comments), iptc


def into_jpeg(jpeg: bytes, metadata: Metadata) -> tuple[bytes, list[str]]:
    """A JPEG file with metadata at its head, and the names of what is too long for the format."""
    blocks = {
        "EXIF": (0xE1, b"Exif\0\0", metadata.exif),
        "XMP": (0xE1, _XMP_JPEG, metadata.xmp),
        "IPTC": (0xED, _IPTC_JPEG, _resource(metadata.iptc)),
    }
    across, down = (min(round(each), 65535) for each in metadata.dpi or (1, 1))
    unit = 1 if metadata.dpi else 0  # pixels an inch, or no unit
    head = _segment(0xE0, struct.pack(">5sHBHHBB", b"JFIF\0", 0x0102, unit, across, down, 0, 0))
    too_long = []
    for name, (marker, before, block) in blocks.items():
        if block and len(before) + len(block) <= _JPEG_MOST:
            head += _segment(marker, before + block)
        elif block:
            too_long.append(name)
    for _, text in metadata.comments:
        head += _segment(0xFE, text.encode()[:_JPEG_MOST])
    start = 2
    if jpeg[2:4] == b"\xff\xe0":  # the encoder's own, which ours replaces
        start += 2 + struct.unpack_from(">H", jpeg, 4)[0]
    return jpeg[:2] + head + jpeg[start:], too_long


def into_png(png: bytes, metadata: Metadata) -> bytes:
    """A PNG file with metadata before its pixels."""
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
        chunks.append(_chunk(b"iTXt", word + bytes(5) + comment.encode()))
    place, kept = 8, []
    while png[place + 4 : place + 8] != b"IDAT":
        size = 12 + struct.unpack_from(">I", png, place)[0]
        if png[place + 4 : place + 8] != b"pHYs":  # the encoder's, which ours replaces
            kept.append(png[place : place + size])
        place += size
    return b"".join((png[:8], *kept, *chunks, png[place:]))


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
