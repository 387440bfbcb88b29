"""Whatever a file holds: a photo or one sentence, never anything else."""

import io
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_metadata import described
from test_originals import run

from colorhub.decoding import read
from colorhub.errors import PhotoError


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


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    whole = saved("PNG", Image.new("L", (8, 8)))
    place = whole.index(b"IDAT") - 4
    made = b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content)) for kind, content in chunks
    )  # fmt: skip
    return whole[:place] + made + whole[place:]


def test_packed_texts_are_no_bombs():
    packed = zlib.compress(bytes(1 << 26), 9)
    texts = [(b"zTXt", b"a\0\0" + packed)] * 20
    texts += [(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed), (b"iCCP", b"a\0\0" + packed)]
    about = read(png_with(*texts)).metadata
    assert sum(len(text) for _, text in about.comments) + len(about.xmp) <= 1 << 26


def test_a_great_many_comments_are_read_in_no_time():
    assert len(read(png_with(*[(b"tEXt", b"a\0b")] * 2000)).metadata.comments) == 1000
    with pytest.raises(PhotoError, match="thousands of notes"):
        read(png_with(*[(b"tEXt", b"")] * 100_000))
    whole = saved("JPEG", Image.new("L", (8, 8)))
    segments = b"\xff\xfe\0\3a" * 100_000
    assert len(read(whole[:2] + segments + whole[2:]).metadata.comments) == 1000


def tiff_of(*more: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A TIFF file of 8 x 8 pixels at byte 600 with more tags."""
    tags = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
            (273, 4, 1, 600), (277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64)]  # fmt: skip
    tags = sorted({tag[0]: tag for tag in (*tags, *more)}.values()) if len(more) < 9 else [
        *tags, *more]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries
    return (head + struct.pack("<I", following)).ljust(664, b"\x55")


def test_tags_that_lead_in_circles_come_to_an_end():
    for content in (tiff_of(following=8), tiff_of((330, 4, 1, 8)), tiff_of((0x8769, 4, 1, 8))):
        assert read(content).size == (8, 8)
    assert read(tiff_of(*[(0x8769, 4, 1, 8)] * 3000)[:36_000] + bytes(999)).size == (8, 8)


def test_tags_that_overlap_are_no_bomb():
    bomb = tiff_of(*((40_000 + n, 1, 1 << 24, 0) for n in range(4000)))
    with pytest.raises(PhotoError, match="longer than it is"):
        read(bomb)


def test_a_salvaged_tiff_keeps_what_could_be_decoded():
    file = io.BytesIO()
    make_photo(600, 900).save(file, "TIFF")
    whole = file.getvalue()
    with pytest.raises(PhotoError):
        read(whole[: len(whole) * 2 // 3])
    part = read(whole[: len(whole) * 2 // 3], salvage=True)
    top = np.asarray(part.picture(), int)[:500]
    assert np.array_equal(top, np.asarray(make_photo(600, 900), int)[:500])


_LONG = """
import random, sys, warnings
import numpy as np
from colorhub.errors import PhotoError
from colorhub.decoding import read
from colorhub.results import write
warnings.simplefilter("error")
seed, rounds = int(sys.argv[1]), int(sys.argv[2])
whole = sys.stdin.buffer.read()
for number in range(rounds):
    source = random.Random(f"{seed} {number}")
    print(number, flush=True, file=sys.stderr)
    content = bytearray(whole)
    for _ in range(source.choice((1, 1, 2, 4, 16, 64))):
        place = int(len(content) * source.random() ** source.choice((1, 4)))
        action = source.random()
        if action < 0.6:
            content[place] = source.choice((0, 1, 127, 128, 255, source.randrange(256)))
        elif action < 0.8:
            del content[place : place + source.randrange(1, 9)]
        else:
            content[place:place] = content[source.randrange(len(content)) :][:8]
        if not content:
            break
    for salvage in (False, True):
        try:
            original = read(bytes(content), salvage=salvage)
        except PhotoError as error:
            assert "\\n" not in str(error)
            continue
        original.picture((8, 8))
        height, width = original.levels.shape[1:]
        if max(height, width) < 4096:
            levels = np.broadcast_to(original.levels, (3, height, width))
            ending = ("tif", "png", "jpg", "webp")[number % 4]
            write(f"{sys.argv[3]}/result.{ending}", levels, original, note="by a test")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "HEIC", "PAM", "DEEP"])
def test_ten_thousand_damages_neither_crash_nor_hang(kind, tmp_path):
    rounds = 100 if kind == "HEIC" else 10_000  # each of those takes two processes
    whole = whole_of(kind, tmp_path)
    job = subprocess.run(
        [sys.executable, "-c", _LONG, "0", str(rounds), tmp_path],
        input=whole, capture_output=True, timeout=3600,
    )  # fmt: skip
    assert job.returncode == 0, job.stderr[-2000:]
    assert job.stderr.split()[-1] == str(rounds - 1).encode()


def whole_of(kind: str, folder: Path) -> bytes:
    photo = make_photo(48, 32)
    if kind == "PAM":
        return b"P7\nWIDTH 48\nHEIGHT 32\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + photo.tobytes()
    if kind == "DEEP":
        return b"P5\n48 32\n1023\n" + bytes(48 * 32 * 2)
    if kind != "HEIC":
        return saved(kind, photo)
    if not shutil.which("heif-enc"):
        pytest.skip("needs heif-enc")
    photo.save(folder / "photo.png")
    run("heif-enc", folder / "photo.png", "-o", folder / "photo.heic")
    return (folder / "photo.heic").read_bytes()
