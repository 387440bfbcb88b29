"""What files say besides their pixels goes from file to file."""

import json
import shutil
import subprocess
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_originals import color, needs

from colorhub.decoding import read
from colorhub.metadata import Metadata, in_utf8
from colorhub.results import write


def described(size=(45, 31)) -> dict:
    """Metadata for Pillow's encoders: a picture stored turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x013B] = 6, "Kodak", "Großmutter"
    exif.get_ifd(0x8769).update({0x9003: "1931:05:06 07:08:09", 0xA002: size[0], 0xA003: size[1]})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.0)})
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-'
        b'rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
        b' tiff:Orientation="6" tiff:Make="Kodak"/></rdf:RDF></x:xmpmeta>'
    )
    return {"exif": exif, "xmp": xmp, "dpi": (300, 600)}


@pytest.mark.parametrize("source", ["jpg", "png", "webp"])
@pytest.mark.parametrize("target", ["jpg", "png", "tif", "webp", "avif"])
def test_metadata_go_with_the_photo_and_orientation_is_normalised(source, target, tmp_path):
    about = described()
    if source == "png":  # Pillow writes XMP into PNG files as a text chunk of its own
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", about.pop("xmp").decode())
        about["pnginfo"] = text
    stored = make_photo(45, 31)
    stored.save(tmp_path / f"photo.{source}", **about)
    original = read(tmp_path / f"photo.{source}")
    assert original.size == (31, 45)
    warnings = write(tmp_path / f"result.{target}", color(original), original, note="by me")
    assert warnings == ()
    with Image.open(tmp_path / f"result.{target}") as result:
        tags = result.getexif()
        assert tags.get(0x0112, 1) == 1
        assert tags[0x010F] == "Kodak"
        assert tags.get_ifd(0x8769)[0x9003] == "1931:05:06 07:08:09"
        assert tags.get_ifd(0x8825)[2] == (48.0, 12.0, 30.0)
        inner = tags.get_ifd(0x8769)
        assert (inner[0xA002], inner[0xA003]) == (31, 45)
        if source != "webp" and target in ("jpg", "png", "tif"):
            assert tuple(round(float(each)) for each in result.info["dpi"]) == (600, 300)
        xmp = result.info.get("xmp", b"")
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        assert b'tiff:Orientation="1"' in xmp and b'tiff:Make="Kodak"' in xmp
        assert b'colorhub:Note="by me"' in xmp
        assert result.size == (31, 45)


def tags_of(path) -> dict[str, str]:
    shown = subprocess.run(
        ["exiftool", "-json", "-G1", "-struct", str(path)], capture_output=True, check=True
    )
    (tags,) = json.loads(shown.stdout)
    groups = ("IFD0", "ExifIFD", "GPS", "XMP", "IPTC", "Photoshop", "Canon", "InteropIFD")
    return {name: value for name, value in tags.items() if name.startswith(groups)}


@needs("exiftool")
@pytest.mark.parametrize("name", ["photo.jpg", "photo.tif", "photo.png"])
def test_exiftool_sees_the_same_metadata_before_and_after(name, tmp_path):
    path = tmp_path / name
    make_photo(45, 31).convert("L").save(path)
    make_photo(16, 12).save(tmp_path / "thumbnail.jpg")
    words = ["-Make=Canon", "-Model=EOS 5D", "-Artist=Großmutter", "-Copyright=(c) us"]
    words += ["-DateTimeOriginal=1931:05:06 07:08:09", "-OffsetTimeOriginal=+02:00"]
    words += ["-ExposureTime=1/250", "-FNumber=2.8", "-ISO=400", "-LensModel=EF 50"]
    words += ["-GPSLatitude=48.2", "-GPSLatitudeRef=N", "-UserComment=hello", "-XPTitle=Titel"]
    words += ["-ImageUniqueID=abc", "-SerialNumber=77", "-ImageDescription=Grandma"]
    words += ["-XMP-dc:Title=A title", "-XMP-dc:Subject=one", "-XMP-dc:Subject=two"]
    words += ["-XResolution=300", "-YResolution=300", "-Orientation#=8"]
    words += ["-IPTC:Keywords=album", "-IPTC:Caption-Abstract=Her house"]
    if name == "photo.jpg":
        words.append(f"-ThumbnailImage<={tmp_path / 'thumbnail.jpg'}")
    subprocess.run(["exiftool", "-q", "-overwrite_original", *words, str(path)], check=True)
    original = read(path)
    assert original.size == (31, 45)
    write(tmp_path / f"result-{name}", color(original), original)
    before, after = tags_of(path), tags_of(tmp_path / f"result-{name}")
    assert len(before) > 20
    # What describes how the pixels are stored changes with them; orientation is normalised.
    of_pixels = {"Orientation", "ImageWidth", "ImageHeight", "BitsPerSample", "Compression"}
    of_pixels |= {"PhotometricInterpretation", "StripOffsets", "SamplesPerPixel", "RowsPerStrip"}
    of_pixels |= {"StripByteCounts", "PlanarConfiguration", "YCbCrPositioning", "Predictor"}
    of_pixels |= {"CurrentIPTCDigest", "ResolutionUnit", "XResolution", "YResolution"}
    for tag, value in before.items():
        if tag.split(":")[1] not in of_pixels:
            assert after.get(tag) == value, tag
    assert after["IFD0:Orientation"] == "Horizontal (normal)"
    seen = subprocess.run(["exiftool", "-b", "-ThumbnailImage", tmp_path / f"result-{name}"],
                          capture_output=True, check=True)  # fmt: skip
    assert seen.stdout == b""
    check = subprocess.run(
        ["exiftool", "-validate", "-warning", "-a", tmp_path / f"result-{name}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Error" not in check.stdout


def test_comments_of_png_and_jpeg_files_stay(tmp_path, photo):
    text = PngInfo()
    text.add_text("Title", "Großmutter", zip=True)
    photo.save(tmp_path / "photo.png", pnginfo=text)
    photo.save(tmp_path / "photo.jpg", comment="from a scanner")
    for name in ("photo.png", "photo.jpg"):
        original = read(tmp_path / name)
        write(tmp_path / f"result-{name}", color(original), original)
    with Image.open(tmp_path / "result-photo.png") as result:
        assert result.text["Title"] == "Großmutter"
    with Image.open(tmp_path / "result-photo.jpg") as result:
        assert result.info["comment"] == b"from a scanner"


def test_what_a_format_cannot_hold_is_said(tmp_path, photo):
    about = Metadata(exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0", xmp=b"<x/>", iptc=b"\x1c\x02\x19\0\x01a")
    original = replace(read(photo), metadata=about, alpha=np.zeros(photo.size[::-1], np.uint8))
    warnings = write(tmp_path / "photo.bmp", color(original), original)
    assert len(warnings) == 4 and "transparency" in warnings[0] and "EXIF" in warnings[1]
    assert np.asarray(Image.open(tmp_path / "photo.bmp")).min() == 255  # all was transparent
    long = replace(original, alpha=None, metadata=Metadata(exif=bytes(70_000)))
    assert "EXIF is longer" in write(tmp_path / "photo.jpg", color(original), long)[0]


NAMESPACE = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
TITLE = (
    '<rdf:Description rdf:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/">'
    '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Old</rdf:li></rdf:Alt></dc:title>'
    "</rdf:Description>"
)
PLAIN = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF {NAMESPACE}>{TITLE}</rdf:RDF></x:xmpmeta>"
PACKET = f'<?xpacket begin="\ufeff" id="W5M0"?>{PLAIN}      <?xpacket end="r"?>'
NOTED = PLAIN.replace("<dc:", "<colorhub:Note xmlns:colorhub='urn:colorhub:1.0'>an older one"
                      "</colorhub:Note><dc:", 1)  # fmt: skip
XMP = {
    "plain": PLAIN.encode(),
    "read-only": PACKET.encode(),
    "utf-16": PACKET.encode("utf-16"),
    "big-endian": PLAIN.encode("utf-16-be"),
    "declared": f'<?xml version="1.0" encoding="UTF-16"?>{PLAIN}'.encode("utf-16"),
    "other prefix": PLAIN.replace("rdf:", "r:").replace("xmlns:rdf", "xmlns:r").encode(),
    "comment behind": PLAIN.replace("</x:", "<!-- </rdf:RDF> --></x:").encode(),
    "cdata": PLAIN.replace("Old", "<![CDATA[Old</rdf:RDF>]]>").encode(),
    "noted": NOTED.encode(),
    "filled up": PLAIN.encode() + bytes(9),
    "empty": f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF {NAMESPACE}/></x:xmpmeta>".encode(),
    "none": b"",
}


@pytest.mark.parametrize("shape", XMP)
def test_a_note_goes_into_xmp_of_any_shape(shape, tmp_path, photo):
    original = replace(read(photo), metadata=Metadata(xmp=in_utf8(XMP[shape])))
    path = tmp_path / "result.jpg"
    assert write(path, color(original), original, note='by "me" <&> \n') == ()
    with Image.open(path) as result:
        packet = result.info["xmp"].rstrip(b"\0")
    (rdf,) = ElementTree.fromstring(packet.decode()).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}RDF"
    )
    notes = [each.get("{urn:colorhub:1.0}Note") for each in rdf]
    assert notes[-1] == 'by "me" <&> ' and b"an older one" not in packet
    assert shape in ("empty", "none") or b"Old" in packet
    if shutil.which("exiftool") and shape != "cdata":  # which exiftool does not know
        tags = tags_of(path)
        assert tags["XMP-colorhub:Note"] == 'by "me" <&> '
        assert shape in ("empty", "none") or tags["XMP-dc:Title"] == "Old"


@pytest.mark.parametrize("xmp", [PLAIN.replace("</rdf:RDF>", "").encode(), b"\xff\0none"])
def test_xmp_that_is_damaged_stays_as_it_is_and_it_is_said(xmp, tmp_path, photo):
    original = replace(read(photo), metadata=Metadata(xmp=xmp))
    (warning,) = write(tmp_path / "result.jpg", color(original), original, note="by me")
    assert "no note" in warning
    assert xmp in (tmp_path / "result.jpg").read_bytes()


def test_xmp_that_is_too_long_for_a_segment_stays_whole(tmp_path, photo):
    xmp = PLAIN.replace("Old", "Old" * 50_000).encode()
    original = replace(read(photo), metadata=Metadata(xmp=xmp))
    assert write(tmp_path / "long.jpg", color(original), original) == ()
    again = read(tmp_path / "long.jpg")
    assert again.warnings == () and b"Old" * 50_000 in again.metadata.xmp
    write(tmp_path / "long.png", color(again), again, note="by me")
    if shutil.which("exiftool"):
        assert len(tags_of(tmp_path / "long.jpg")["XMP-dc:Title"]) == 150_000
        assert len(tags_of(tmp_path / "long.png")["XMP-dc:Title"]) == 150_000
    content = (tmp_path / "long.jpg").read_bytes().replace(b"</rdf:Des", b"</rdf:des")
    (warning,) = read(content).warnings
    assert "beyond 64 kB" in warning


@pytest.mark.parametrize("target", ["jpg", "png", "tif", "webp", "avif"])
@pytest.mark.parametrize("source", ["jpg", "png", "tif"])
def test_resolution_goes_into_every_format(source, target, tmp_path, photo):
    photo.save(tmp_path / f"photo.{source}", dpi=(300, 150))
    original = read(tmp_path / f"photo.{source}")
    write(tmp_path / f"result.{target}", color(original), original)
    assert read(tmp_path / f"result.{target}").metadata.dpi == pytest.approx((300, 150), abs=0.1)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_no_resolution_is_made_up(kind, tmp_path, photo):
    photo.save(tmp_path / f"photo.{kind}")
    original = read(tmp_path / f"photo.{kind}")
    write(tmp_path / f"result.{kind}", color(original), original)
    assert original.metadata.dpi is None
    assert read(tmp_path / f"result.{kind}").metadata.dpi is None


def test_exif_behind_the_pixels_of_a_png_is_found(tmp_path, photo):
    photo.save(tmp_path / "photo.png", exif=described()["exif"])
    content = (tmp_path / "photo.png").read_bytes()
    start, end = content.index(b"eXIf") - 4, content.index(b"IEND") - 4
    size = 12 + int.from_bytes(content[start : start + 4], "big")
    moved = content[:start] + content[start + size : end] + content[start:][:size] + content[end:]
    original = read(moved)
    assert original.size == photo.size[::-1] and len(original.metadata.exif) == size - 12


@needs("exiftool")
def test_tags_of_a_bigtiff_stay(tmp_path, photo):
    photo.save(tmp_path / "photo.tif", big_tiff=True, description="Grandma", dpi=(300, 300))
    original = read(tmp_path / "photo.tif")
    write(tmp_path / "result.tif", color(original), original)
    tags = tags_of(tmp_path / "result.tif")
    assert tags["IFD0:ImageDescription"] == "Grandma" and tags["IFD0:XResolution"] == 300
