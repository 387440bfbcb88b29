"""Several photos at once, in the app."""

import zipfile

import pytest
from conftest import make_generator, make_photo

from colorhub import weights
from colorhub.decoding import read
from colorhub.errors import OptionError

pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
several = pytest.importorskip("colorhub.several")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    weights.save(make_generator("Autoencoder"), tmp_path / "variants" / "tiny")
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(tmp_path / "variants"))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_photo(40, 30).convert("L").save(tmp_path / name / "house.jpg", dpi=(300, 300))
    (tmp_path / "broken.png").write_text("no photo")
    return tmp_path


def test_a_bad_photo_does_not_stop_the_rest_and_is_named(folder):
    photos = [folder / "one" / "house.jpg", folder / "broken.png", folder / "two" / "house.jpg"]
    *early, (rows, path) = several.coloured(list(map(str, photos)), "tiny", 1.0, True)
    assert [path for _, path in early] == [None] * 3
    assert [bool(row[1]) for row in rows] == [True, False, True]
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert names == ["house-tiny.jpg", "house-tiny-2.jpg", several.WHAT_FAILED]
        assert "broken.png: broken.png is not a photo" in archive.read(names[2]).decode()
        result = read(archive.read(names[1]))
    assert result.size == (40, 30) and len(result.levels) == 3
    assert b"colorized by tiny@" in result.metadata.xmp
    assert result.metadata.dpi == (300, 300)


def test_what_cannot_be_is_refused_in_one_sentence(folder):
    photo = str(folder / "one" / "house.jpg")
    for photos, variant, words in (
        ([], "tiny", "Choose photos"),
        ([photo] * (several.MOST + 1), "tiny", "at most"),
        ([photo], "", "at least one variant"),
        ([photo], "../tiny", "no variant"),
        ([str(folder / "broken.png")], "tiny", "None of these"),
    ):
        with pytest.raises(OptionError, match=words):
            list(several.coloured(photos, variant, 1.0, False))
