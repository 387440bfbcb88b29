"""Photo files in, photo files out: what they hold stays."""

import io
import json
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace

import numpy as np
import pytest
import pyvips
import torch
from conftest import make_photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from colorhub.color import lightness_of
from colorhub.colorizer import join
from colorhub.errors import OptionError, PhotoError
from colorhub.metadata import Metadata
from colorhub.originals import Original, read
from colorhub.results import check_profile, write

AB = torch.tensor([9.0, -7.0]).view(1, 2, 1, 1)
needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="needs exiftool")


def deep(bands: int, form=np.uint16) -> np.ndarray:
    """A photo of 45 x 31 pixels whose low bits matter."""
    fine = np.random.default_rng(0).integers(0, 65536, (31, 45, bands))
    broad = np.asarray(make_photo(45, 31).resize((45, 31)), int)[..., [0, 1, 2, 0][:bands]] * 257
    levels = np.clip(broad + fine // 64, 0, 65535)
    return (levels / 65535).astype(form) if form != np.uint16 else levels.astype(form)


def save_by_vips(levels: np.ndarray, path, **options) -> None:
    space = {1: "grey16", 2: "grey16", 3: "rgb16", 4: "rgb16"}[levels.shape[2]]
    pyvips.Image.new_from_array(levels).copy(interpretation=space).write_to_file(path, **options)


def color(original: Original) -> np.ndarray:
    return join(original.levels, AB, bits=original.bits)


def lightness(original: Original) -> np.ndarray:
    return lightness_of(torch.from_numpy(original.levels)).numpy()


PILLOW = {
    "grey.jpg": ("L", {"quality": 95}),
    "rgb.jpg": ("RGB", {"quality": 95}),
    "progressive.jpg": ("RGB", {"progressive": True}),
    "cmyk.jpg": ("CMYK", {}),
    "bilevel.png": ("1", {}),
    "2bits.png": ("2", {"bits": 2}),
    "palette.png": ("P", {}),
    "grey.png": ("L", {}),
    "la.png": ("LA", {}),
    "rgba.png": ("RGBA", {}),
    "bilevel.tif": ("1", {"compression": "group4"}),
    "lzw.tif": ("RGB", {"compression": "tiff_lzw"}),
    "deflate.tif": ("L", {"compression": "tiff_adobe_deflate"}),
    "jpeg.tif": ("RGB", {"compression": "jpeg", "quality": 95}),
    "cmyk.tif": ("CMYK", {}),
    "rgba.tif": ("RGBA", {}),
    "lossless.webp": ("RGBA", {"lossless": True}),
    "lossy.webp": ("RGB", {"quality": 95}),
    "photo.avif": ("RGB", {"quality": 95}),
    "photo.bmp": ("RGB", {}),
    "photo.ppm": ("RGB", {}),
    "photo.pgm": ("L", {}),
    "photo.gif": ("P", {}),
}


@pytest.mark.parametrize("name", PILLOW)
def test_a_photo_of_8_bits_keeps_size_lightness_and_transparency(name, tmp_path):
    mode, options = PILLOW[name]
    photo = make_photo(45, 31)
    if mode in ("LA", "RGBA"):
        photo.putalpha(Image.radial_gradient("L").resize(photo.size))
    photo = photo.quantize(4) if mode == "2" else photo.convert(mode)
    photo.save(tmp_path / name, **options)
    original = read(tmp_path / name)
    assert original.size == (45, 31) and original.bits == 8
    reference = np.asarray(photo.convert("RGB").convert("L"), float)
    assert np.abs(np.asarray(original.picture().convert("L"), float) - reference).mean() < 6 or (
        "A" in mode or mode == "CMYK"
    )
    result = tmp_path / f"result-{name}".replace(".pgm", ".ppm").replace(".gif", ".png")
    assert write(result, color(original), original) == ()
    again = read(result)
    assert again.size == original.size and again.bits == 8 and len(again.levels) == 3
    if "A" in mode:
        assert np.array_equal(again.alpha, original.alpha)
        assert np.array_equal(again.alpha, np.asarray(photo.getchannel("A")))
    lossy = name.endswith((".jpg", ".avif")) or name == "lossy.webp"
    kept = np.abs(lightness(again) - lightness(original))
    assert kept.mean() < (1.2 if lossy or name == "lossless.webp" else 0.15)
    assert lossy or name == "lossless.webp" or kept.max() < 0.5


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("photo.png", {}),
        ("interlaced.png", {"interlace": True}),
        ("photo.tif", {}),
        ("tiled.tif", {"tile": True, "tile_width": 16, "tile_height": 16, "compression": "lzw"}),
        ("zip.tif", {"compression": "deflate", "predictor": "horizontal"}),
    ],
)
def test_16_bits_come_in_and_go_out(name, options, bands, tmp_path):
    levels = deep(bands)
    save_by_vips(levels, tmp_path / name, **options)
    original = read(tmp_path / name)
    assert original.bits == 16
    colors = 1 if bands < 3 else 3
    assert np.array_equal(original.levels, np.moveaxis(levels[..., :colors], 2, 0))
    assert write(tmp_path / f"result-{name}", color(original), original) == ()
    again = read(tmp_path / f"result-{name}")
    assert again.bits == 16 and again.levels.shape == (3, 31, 45)
    # Half an 8-bit level is left to colours at the gamut's border: 0.06 of L where it is dark.
    assert np.abs(lightness(again) - lightness(original)).max() < 0.1
    if bands % 2 == 0:
        assert np.array_equal(again.alpha, levels[..., -1])
    plain = replace(original, alpha=None, metadata=Metadata())
    (warning,) = write(tmp_path / "photo.bmp", color(original), plain)
    assert "8 bits" in warning


@pytest.mark.parametrize("form", [np.float32, np.uint32])
@pytest.mark.parametrize("bands", [1, 3])
def test_32_bits_and_fractions_keep_16(form, bands, tmp_path):
    levels = deep(bands)
    values = levels / 65535 if form == np.float32 else levels.astype(np.uint64) * 65537
    values[0, 0] = values.dtype.type(1 if form == np.float32 else 2**32 - 1)
    image = pyvips.Image.new_from_array(values.astype(form))
    image.tiffsave(str(tmp_path / "photo.tif"))
    original = read(tmp_path / "photo.tif")
    assert original.bits == 16
    expected = np.moveaxis(levels, 2, 0)[:, 1:].astype(int)
    assert np.abs(original.levels[:, 1:].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("bands", [1, 3])
def test_16_bits_of_pnm_files(bands, tmp_path):
    levels = deep(bands)
    head = f"P{6 if bands == 3 else 5}\n# made by hand\n45 31\n65535\n".encode()
    (tmp_path / "photo.pnm").write_bytes(head + levels.astype(">u2").tobytes())
    original = read(tmp_path / "photo.pnm")
    assert np.array_equal(original.levels, np.moveaxis(levels, 2, 0)) and original.bits == 16
    write(tmp_path / "result.ppm", color(original), original)
    assert read(tmp_path / "result.ppm").bits == 16


def test_fractions_that_are_no_numbers_are_refused(tmp_path):
    values = deep(1, np.float32)
    values[3, 4] = np.nan
    pyvips.Image.new_from_array(values).tiffsave(str(tmp_path / "nan.tif"))
    with pytest.raises(PhotoError, match="no numbers"):
        read(tmp_path / "nan.tif")


def test_of_several_pages_the_first_is_taken_and_it_is_said(tmp_path):
    pages = [make_photo(45, 31, seed=seed) for seed in range(3)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    original = read(tmp_path / "pages.tif")
    assert np.array_equal(np.asarray(original.picture()), np.asarray(pages[0]))
    assert original.warnings == ("it has 3 pages, of which the first is coloured",)


def grey_profile(gamma: float) -> bytes:
    """The smallest ICC profile of a grey whose light is the level to the power of gamma."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    text = b"text" + bytes(4) + b"none\0\0\0\0"
    name = b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(79)
    parts = {b"kTRC": curve, b"wtpt": white, b"cprt": text, b"desc": name}
    table, data, place = struct.pack(">I", len(parts)), b"", 128 + 4 + 12 * len(parts)
    for tag, part in parts.items():
        part += bytes(-len(part) % 4)
        table += struct.pack(">4sII", tag, place + len(data), len(part))
        data += part
    head = struct.pack(">I4sI4s4s4s", 0, b"none", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061) + bytes(48)
    profile = head + table + data
    return struct.pack(">I", len(profile)) + profile[4:]


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.tif"])
def test_a_grey_profile_is_honoured_and_the_result_is_srgb(gamma, name, tmp_path):
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(16, axis=0)
    profile = grey_profile(gamma)
    Image.fromarray(ramp).save(tmp_path / name, icc_profile=profile, quality=100)
    original = read(tmp_path / name)
    luminance = (np.arange(256) / 255) ** gamma
    root = np.where(luminance > 0.008856, np.cbrt(luminance), 7.787 * luminance + 16 / 116)
    expected = 116 * root - 16
    slack = 0.3 if name != "photo.jpg" or gamma > 1 else 3  # a level of JPEG's, near black
    assert np.abs(lightness(original) - expected)[:, 1:].max() < slack
    write(tmp_path / f"result-{name}", color(original), original)
    with Image.open(tmp_path / f"result-{name}") as result:
        from PIL import ImageCms

        tag = ImageCms.ImageCmsProfile(io.BytesIO(result.info["icc_profile"]))
        assert "srgb" in ImageCms.getProfileDescription(tag).lower()
        assert result.mode == "RGB"
    again = read(tmp_path / f"result-{name}")
    assert again.levels.dtype == np.uint8, "sRGB's own profile changes nothing"
    if name != "photo.jpg":
        assert np.abs(lightness(again) - lightness(original)).max() < 0.5


def test_a_profile_that_is_none_is_left_aside_with_a_warning(tmp_path, photo):
    photo = photo.convert("L")
    broken = grey_profile(2.2).replace(b"kTRC", b"none")
    photo.save(tmp_path / "photo.jpg", icc_profile=broken, quality=100)
    photo.save(tmp_path / "plain.jpg", quality=100)
    original = read(tmp_path / "photo.jpg")
    assert original.warnings == ("its colour profile cannot be used and is taken for sRGB",)
    assert np.array_equal(original.levels, read(tmp_path / "plain.jpg").levels)


def test_results_come_in_another_working_space_on_request(tmp_path, photo):
    original = read(photo)
    for profile in ("srgb", "p3"):
        write(tmp_path / f"{profile}.png", color(original), original, profile=profile)
    plain, wide = (pyvips.Image.new_from_file(str(tmp_path / f"{n}.png")) for n in ("srgb", "p3"))
    assert plain.get("icc-profile-data") != wide.get("icc-profile-data")
    assert not np.array_equal(plain.numpy(), wide.numpy())
    one, two = (image.icc_import(embedded=True).numpy() for image in (plain, wide))
    assert np.abs(one - two).mean() < 0.5
    for wrong in ("adobe", str(tmp_path / "p3.png")):
        with pytest.raises(OptionError, match=r"colour profile"):
            check_profile(wrong)


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


@needs_exiftool
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
    long = replace(original, alpha=None, metadata=Metadata(xmp=b"x" * 70_000))
    assert "XMP is longer" in write(tmp_path / "photo.jpg", color(original), long)[0]


def saved(kind: str, photo: Image.Image) -> bytes:
    whole = io.BytesIO()
    options = {"exif": described()["exif"]} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    photo.save(whole, kind, **options)
    return whole.getvalue()


KINDS = ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "PPM", "GIF"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "GIF"])
def test_a_truncated_photo_is_refused_and_salvaged_where_it_can_be(kind, tmp_path):
    file = io.BytesIO()
    make_photo(200, 300).save(file, kind)
    whole = file.getvalue()
    cut = whole[: len(whole) * 3 // 5]
    with pytest.raises(PhotoError) as caught:
        read(cut)
    assert "\n" not in str(caught.value)
    if kind in ("JPEG", "PNG"):
        part = read(cut, salvage=True)
        top = np.asarray(part.picture(), int)[:60]
        assert np.abs(top - np.asarray(read(whole).picture(), int)[:60]).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "PPM"])
def test_a_bomb_is_refused_from_its_header(kind):
    content = bytearray(saved(kind, Image.new("L", (8, 8))))
    if kind == "PNG":
        content[16:24] = (30_000).to_bytes(4, "big") * 2
        content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    elif kind == "JPEG":
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = (60_000).to_bytes(2, "big") * 2
    elif kind == "TIFF":
        for tag in (256, 257):
            place = content.index(struct.pack("<HHI", tag, 4, 1)) + 8
            content[place : place + 4] = (60_000).to_bytes(4, "little")
    elif kind == "BMP":
        content[18:26] = (30_000).to_bytes(4, "little") * 2
    else:
        content = bytearray(b"P5\n30000 30000\n255\n" + bytes(64))
    with pytest.raises(PhotoError, match="megapixels"):
        read(bytes(content))


def test_what_is_no_photo_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.jpg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    for name, message in {"text.jpg": "not a photo", "empty.png": "not a photo",
                          "page.jpg": "not a photo", "absent": "no such file",
                          ".": "folder"}.items():  # fmt: skip
        with pytest.raises(PhotoError, match=message):
            read(tmp_path / name)


def test_names_are_only_names(tmp_path, photo):
    for name in ("scan[page=1].tif", "50% grey.png", "Großmutter\udcff.jpg", "-o.png"):
        photo.save(tmp_path / name)
        original = read(tmp_path / name)
        write(tmp_path / ("new " + name), color(original), original)
        assert (tmp_path / ("new " + name)).stat().st_size > 0


def test_heic_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pi_heif", None)
    with pytest.raises(PhotoError, match=r"colorhub\[heic\]"):
        read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_a_photo_or_our_error(kind, photo):
    whole = saved(kind, photo.resize((24, 16)))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def try_damage(data):
        content = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(len(content) // 2, len(content)))
        for salvage in (False, True):
            try:
                original = read(bytes(content[:cut]), salvage=salvage)
            except PhotoError as error:
                assert "\n" not in str(error)
            else:
                assert original.levels.dtype in (np.uint8, np.uint16)
                assert original.picture().mode in ("L", "RGB")

    try_damage()
