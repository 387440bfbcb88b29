"""Photo files in, photo files out: what they hold stays."""

import io
import os
import shutil
import struct
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import pyvips
import torch
from conftest import make_photo
from PIL import Image

from colorhub import decoding
from colorhub.color import lightness_of
from colorhub.colorizer import join
from colorhub.decoding import read
from colorhub.errors import OptionError, PhotoError
from colorhub.metadata import Metadata
from colorhub.originals import Original
from colorhub.results import check_profile, write

AB = torch.tensor([9.0, -7.0]).view(1, 2, 1, 1)


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program), reason=f"needs {program}")


def run(*words) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def deep(bands: int, form=np.uint16) -> np.ndarray:
    """A photo of 45 x 31 pixels whose low bits matter."""
    fine = np.random.default_rng(0).integers(0, 65536, (31, 45, bands))
    broad = np.asarray(make_photo(45, 31).resize((45, 31)), int)[..., [0, 1, 2, 0, 1][:bands]] * 257
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
    assert kept.mean() < (1.2 if lossy else 0.15)
    assert lossy or kept.max() < 0.5


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


@pytest.mark.parametrize("bits", [8, 16])
def test_colours_of_a_wide_profile_come_as_srgb(bits, tmp_path):
    levels = deep(4) // (257 if bits == 8 else 1)
    image = pyvips.Image.new_from_array(levels.astype(f"u{bits // 8}"))
    image = image.copy(interpretation="srgb" if bits == 8 else "rgb16")
    # Muted, so that rounding matters little; its transparency has nothing to do with profiles.
    plain = (
        (image[:3] * 0.5 + (1 << bits) / 4)
        .cast(image.format)
        .copy(interpretation=image.interpretation)
    )
    wide = plain.icc_transform("p3", input_profile="srgb", depth=bits).bandjoin(image[3])
    wide.tiffsave(str(tmp_path / "photo.tif"), keep="icc")
    original = read(tmp_path / "photo.tif")
    assert original.bits == bits and np.array_equal(original.alpha, image[3].numpy())
    most = 65535 / (2**bits - 1)
    truth = np.moveaxis(plain.numpy().astype(float), 2, 0) * most
    assert np.abs(original.levels - truth).max() < (1.5 * 257 if bits == 8 else 60)


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


MAGICK = {  # what ImageMagick writes, its options, and how many channels and bits it has
    "clear.bmp": (["-alpha", "set"], 3, 8),
    "ascii.ppm": (["-depth", "16", "-compress", "none"], 3, 16),
    "photo.pam": (["-depth", "8"], 3, 8),
    "deep.pam": (["-depth", "16"], 3, 16),
    "12bits.tif": (["-colorspace", "gray", "-depth", "12", "-compress", "none"], 1, 16),
    "zstd.tif": (["-depth", "8", "-compress", "zstd"], 3, 8),
    "white.tif": (
        ["-colorspace", "gray", "-depth", "8", "-define", "quantum:polarity=min-is-white"],
        1,
        8,
    ),
    "fax.tif": (["-monochrome", "-compress", "Group4"], 1, 8),
    "big.tif": (["-endian", "MSB", "-depth", "16"], 3, 16),
    "arithmetic.jpg": (["-quality", "100", "-define", "jpeg:arithmetic-coding=true"], 3, 8),
}


@needs("convert")
@pytest.mark.parametrize("name", MAGICK)
def test_what_imagemagick_writes_is_read_as_it_reads_it(name, tmp_path):
    options, bands, bits = MAGICK[name]
    save_by_vips(deep(3), tmp_path / "photo.png")
    source = f"TIFF64:{tmp_path / name}" if name == "big.tif" else tmp_path / name
    run("convert", tmp_path / "photo.png", *options, source)
    run("convert", tmp_path / name, "-depth", "16", "-alpha", "off", tmp_path / "truth.png")
    original, truth = read(tmp_path / name), read(tmp_path / "truth.png")
    assert (len(original.levels), original.bits) == (bands, bits)
    assert np.abs(lightness(original) - lightness(truth)).max() < 0.3


@needs("tiffcp")
def test_planes_in_tiles_are_read_by_another_decoder(tmp_path, photo):
    photo.save(tmp_path / "photo.tif")
    run("tiffcp", "-p", "separate", "-t", "-w", "16", "-l", "16",
        tmp_path / "photo.tif", tmp_path / "tiles.tif")  # fmt: skip
    assert np.array_equal(np.asarray(read(tmp_path / "tiles.tif").picture()), np.asarray(photo))


@needs("convert")
def test_luma_and_chroma_are_not_taken_for_rgb(tmp_path, photo):
    photo.save(tmp_path / "photo.png")
    options = ["-colorspace", "YCbCr", "-compress", "none"]
    run("convert", tmp_path / "photo.png", *options, tmp_path / "photo.tif")
    with pytest.raises(PhotoError, match="save it as RGB"):
        read(tmp_path / "photo.tif")


TURNS = [None, None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM",
         "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"]  # fmt: skip


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tif", "webp", "avif"])
def test_all_orientations_come_upright(turn, kind, tmp_path):
    stored, exif = make_photo(46, 32), Image.Exif()
    exif[0x0112] = turn
    stored.putalpha(Image.radial_gradient("L").resize(stored.size))
    options = {"lossless": True} if kind == "webp" else {"quality": 100, "subsampling": "4:4:4"}
    stored.save(tmp_path / f"photo.{kind}", exif=exif, **options)
    upright = stored.transpose(Image.Transpose[TURNS[turn]]) if TURNS[turn] else stored
    original = read(tmp_path / f"photo.{kind}")
    assert np.array_equal(original.alpha, np.asarray(upright.getchannel("A")))
    truth = np.moveaxis(np.asarray(upright.convert("RGB"), int), 2, 0)
    assert np.abs(original.levels - truth).max() <= (6 if kind == "avif" else 0)


def test_exif_does_not_turn_an_avif_again(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0113] = 6  # which becomes its orientation once Pillow has written it
    photo.save(tmp_path / "photo.avif", exif=exif)
    content = (tmp_path / "photo.avif").read_bytes()
    assert content.count(b"\x01\x13\0\x03\0\0\0\x01\0\x06") == 1
    turned = content.replace(b"\x01\x13\0\x03", b"\x01\x12\0\x03")
    assert read(turned).size == photo.size


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@needs("heif-enc")
def test_heic_comes_with_its_metadata(mode, tmp_path):
    photo = make_photo(48, 32).convert(mode)
    photo.save(tmp_path / "photo.png", exif=b"")
    run("heif-enc", "-q", "95", tmp_path / "photo.png", "-o", tmp_path / "photo.heic")
    original = read(tmp_path / "photo.heic")
    assert original.size == (48, 32) and original.metadata == Metadata()
    assert (original.alpha is not None) == (mode == "RGBA")
    truth = np.asarray(photo.convert("RGB").convert("L"), float)
    assert np.abs(np.asarray(original.picture().convert("L"), float) - truth).mean() < 4


def test_a_decoder_of_heic_that_crashes_is_an_error(monkeypatch):
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(decoding, "_HEIF", crash)
    with pytest.raises(PhotoError, match="its decoder crashed"):
        read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(1 << 20))


def test_a_film_is_not_called_a_heic_photo():
    with pytest.raises(PhotoError, match="not a photo"):
        read(b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + bytes(64))


@pytest.mark.parametrize("bits", [8, 16])
def test_of_what_is_beside_the_colours_the_first_is_transparency(bits, tmp_path):
    levels = (deep(5) if bits == 16 else deep(5) // 257).astype(f"u{bits // 8}")
    space = "rgb16" if bits == 16 else "srgb"
    image = pyvips.Image.new_from_array(levels).copy(interpretation=space)
    image.tiffsave(str(tmp_path / "photo.tif"))
    original = read(tmp_path / "photo.tif")
    assert np.array_equal(original.levels, np.moveaxis(levels[..., :3], 2, 0))
    assert np.array_equal(original.alpha, levels[..., 3])


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "photo.jpg")
    with pytest.raises(PhotoError, match="is no file"):
        read(tmp_path / "photo.jpg")


@pytest.mark.parametrize("ending", ["tif", "png", "jpg", "webp", "ppm"])
def test_a_place_that_cannot_be_written_is_named(ending, tmp_path, photo):
    original = read(photo)
    (tmp_path / "file").touch()
    with pytest.raises(PhotoError, match="cannot be written"):
        write(tmp_path / "file" / f"photo.{ending}", color(original), original)
    with pytest.raises(PhotoError, match="cannot"):
        write(tmp_path / f"{'x' * 300}/photo.{ending}", color(original), original)


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_a_picture_that_is_too_long_for_a_format_is_refused(ending, tmp_path):
    long = Original(np.zeros((1, 2, 70_000), np.uint8))
    with pytest.raises(PhotoError, match="cannot be"):
        write(tmp_path / f"long.{ending}", color(long), long)
    assert list(tmp_path.iterdir()) == []
