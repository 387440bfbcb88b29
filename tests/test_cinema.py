"""A short film, in the app."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, make_generator
from made_films import make_film, moving, pictures_of

from colorhub import weights
from colorhub.errors import ColorhubError

pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
cinema = pytest.importorskip("colorhub.cinema")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    weights.save(make_generator("Autoencoder"), tmp_path / "variants" / "tiny")
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(tmp_path / "variants"))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    return tmp_path


def test_a_clip_comes_back_in_colour_and_what_was_needed_is_gone(folder):
    film = make_film(folder / "uploads" / "clip.mov", 5)
    *said, (last, video) = cinema._run({"path": str(film)}, "tiny", True)
    assert "Done in" in last and said
    result = video.value["path"]
    assert result.endswith("clip-tiny.mp4") and len(pictures_of(result)) == 5
    events = cinema.coloured(str(film), "tiny", False)
    next(events)
    events.close()  # as Stop does
    assert not list((folder / "uploads").rglob(".*.part"))


def test_what_is_beyond_the_limits_is_refused_in_one_sentence(folder, monkeypatch):
    uploads = folder / "uploads"
    long = make_film(uploads / "long.mp4", moving(3, (16, 16)), times=[0, 1, 25 * 60 * 60 * 3])
    film = make_film(uploads / "film.mp4", 3)
    (uploads / "text.mp4").write_text("no film")
    for path, variant, words in (
        ("", "tiny", "Choose a film"),
        (film, "", "Choose a variant"),
        (film, "../tiny", "no variant"),
        (long, "tiny", "seconds"),
        (uploads / "text.mp4", "tiny", "no film"),
    ):
        with pytest.raises(ColorhubError, match=words):
            list(cinema.coloured(str(path), variant, False))
    *_, (said, _) = cinema._run({"path": str(uploads / "text.mp4")}, "tiny", False)
    assert "text.mp4" in said and str(uploads) not in said
    *_, (said, _) = cinema._run({"path": "/etc/hostname"}, "tiny", False)
    assert "was not sent" in said
    for limit, value in {"MEGABYTES": 0, "FRAMES": 2, "MEGAPIXELS": 0.001}.items():
        with monkeypatch.context() as patch:
            patch.setattr(cinema, limit, value)
            with pytest.raises(ColorhubError, match="Up to 20 seconds"):
                list(cinema.coloured(str(film), "tiny", False))


BUILT = """
import json
import gradio as gr
from colorhub import cinema
with gr.Blocks() as demo:
    cinema.tab()
assert "Up to 20 seconds, 600 frames, 50 MB" in json.dumps(demo.get_config_file(), default=str)
assert not demo.get_api_info()["named_endpoints"]
"""


def test_the_tab_tells_its_limits_and_hides_its_api(folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # gradio leaves a loop behind
    subprocess.run([sys.executable, "-c", BUILT], env=environment, check=True)
