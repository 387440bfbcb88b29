import contextlib
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorhub.errors import PhotoError
from colorhub.photos import open_photo, save_photo

MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "La"]
MODES += ["RGBa", "RGBX", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow_becomes_grey_or_rgb(mode, photo):
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    elif mode in ("La", "RGBa"):
        picture = photo.convert({"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    elif mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(photo, *profiles, outputMode="LAB")
    elif mode == "P":
        picture = photo.quantize(256)
    else:
        picture = photo.convert("LA").convert("PA") if mode == "PA" else photo.convert(mode)
    assert picture.mode == mode
    opened = open_photo(picture)
    assert opened.mode in ("L", "RGB")
    assert opened.size == photo.size
    # The grey of what comes out is the grey that went in, but for the mode's own rounding.
    reference = np.asarray(photo.convert("1" if mode == "1" else "L").convert("L"), float)
    tolerance = 8 if mode == "LAB" else 3
    assert np.abs(np.asarray(opened.convert("L"), float) - reference).mean() < tolerance


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_a_16_bit_scan_keeps_its_tones(extension, tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(8, axis=0)
    Image.fromarray(ramp).save(tmp_path / f"scan.{extension}")
    opened = open_photo(tmp_path / f"scan.{extension}")
    assert opened.mode == "L"
    assert np.abs(np.asarray(opened, float) - ramp / 257).max() <= 0.51


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((4, 5), 128, np.uint8), 128),
        (np.full((4, 5, 1), 128, np.uint8), 128),
        (np.full((4, 5), 128 * 257, np.uint16), 128),
        (np.full((4, 5), 0.5), 128),
        (np.full((4, 5, 3), 0.5, np.float32), 128),
        (np.ones((4, 5), bool), 255),
        (np.full((4, 5, 4), 255, np.uint8), 255),
    ],
)
def test_arrays_are_photos_too(array, expected):
    opened = open_photo(array)
    assert opened.size == (5, 4)
    assert np.asarray(opened).max() == np.asarray(opened).min() == expected


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 2), np.uint8), r"\(4, 5, 2\)"),
        (np.zeros((0, 5), np.uint8), "empty"),
        (np.full((4, 5), 200.0), r"\[0, 1\]"),
        (np.full((4, 5), np.nan), "finite"),
        (np.zeros((4, 5), np.int64), "int64"),
    ],
)
def test_an_array_that_is_no_photo_is_refused(array, message):
    with pytest.raises(PhotoError, match=message):
        open_photo(array)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}.get(orientation, [])
    stored = photo
    for way in turned:
        stored = stored.transpose(Image.Transpose(way))
    stored.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.asarray(open_photo(tmp_path / "turned.png")), np.asarray(photo))


def test_transparency_is_laid_on_white():
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert np.asarray(open_photo(picture)).min() == 255


def test_what_is_no_photo_is_refused_in_one_sentence(tmp_path, photo):
    (tmp_path / "text.jpg").write_text("not a photo")
    photo.save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:400])
    (tmp_path / "empty.png").touch()
    for name, message in {
        "text.jpg": "not a photo",
        "cut.jpg": "damaged",
        "empty.png": "not a photo",
        "absent.png": "no such file",
        ".": "folder",
    }.items():
        with pytest.raises(PhotoError, match=message) as caught:
            open_photo(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path):
    header = io.BytesIO()
    Image.new("1", (1, 1)).save(header, "PNG")
    forged = bytearray(header.getvalue())
    forged[16:24] = (30_000).to_bytes(4, "big") * 2
    forged[29:33] = zlib.crc32(bytes(forged[12:29])).to_bytes(4, "big")
    with pytest.raises(PhotoError, match="megapixels"):
        open_photo(bytes(forged))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "PPM"])
def test_a_damaged_file_is_a_photo_or_our_error(kind, photo):
    whole = io.BytesIO()
    photo.save(whole, kind)
    random = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole.getvalue())
        for place in random.integers(0, len(content), size=random.integers(1, 12)):
            content[place] = random.integers(256)
        with contextlib.suppress(PhotoError):
            assert open_photo(bytes(content)).mode in ("L", "RGB")


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif", "bmp", "avif", "ppm"])
def test_a_saved_photo_opens_again(extension, tmp_path, photo):
    save_photo(photo, tmp_path / "new" / f"photo.{extension}")
    again = np.asarray(open_photo(tmp_path / "new" / f"photo.{extension}"), float)
    assert np.abs(again - np.asarray(photo)).mean() < 3
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"photo.{extension}"]


def test_nothing_half_written_is_left_behind(tmp_path, photo):
    target: Path = tmp_path / "photo.webp"
    target.write_bytes(b"as it was")
    with pytest.raises(PhotoError, match="cannot be written"):
        save_photo(photo.resize((20_000, 8)), target)  # WebP ends at 16,383 pixels
    assert [path.name for path in tmp_path.iterdir()] == ["photo.webp"]
    assert target.read_bytes() == b"as it was"
    with pytest.raises(PhotoError, match=r"\.jpg"):
        save_photo(photo, tmp_path / "photo.xyz")
