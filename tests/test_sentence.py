"""Sentences in the app: a picture after every word."""

import pytest
import torch
from test_words import make_network

from colorhub import weights
from colorhub.errors import OptionError

gr = pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
sentence = pytest.importorskip("colorhub.sentence")


@pytest.fixture(autouse=True)
def flowers(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(tmp_path))
    sentence._painter.cache_clear()
    weights.save(make_network(), tmp_path / "tiny-words")


def value(update):
    return update["value"] if isinstance(update, dict) else update.value


def test_each_word_s_picture_is_shown_and_the_slider_goes_back():
    events = list(sentence._paint("a red tulip rose", "tiny-words", 0))
    assert len(events) == 3 + 1
    for word, (picture, words, slider, painted, _) in enumerate(events[:-1], 1):
        marked = ("a", "red", "rose")[word - 1]
        assert f"<strong>{marked}</strong>" in words and painted is None
        assert picture.alt_text == "Picture after: " + " ".join(("a", "red", "rose")[:word])
        assert not slider.visible
    *_, slider, painted, said = events[-1]
    assert slider.visible and slider.maximum == slider.value == 3
    assert "Unknown, and passed over: tulip." in said
    heard, pictures = painted
    assert len(pictures) == len(heard.words) == 3
    assert {each.size for each in pictures} == {(sentence.SCREEN, sentence.SCREEN)}
    picture, words = sentence._at(2, painted)
    assert picture.alt_text == "Picture after: a red" and "<strong>red</strong>" in words
    assert sentence._at(2, None)[1] == ""


def test_what_cannot_be_painted_is_said_and_the_slider_goes():
    for text, variant, words in (
        ("tulip <b>", "tiny-words", "None of these words is known: tulip, b"),
        ("", "tiny-words", "There is no word"),
        ("red", "../tiny-words", "Choose one of the variants"),
        ("red", "cwgan", "Choose one of the variants"),
        ("red " * 200, "tiny-words", "500 characters"),
    ):
        ((_, _, slider, painted, said),) = sentence._paint(text, variant, 0)
        assert words in said and painted is None and not slider.visible
        with pytest.raises(OptionError, match=words):
            sentence.told(text, variant, 0)
    for seed in (-1, None):
        assert len(list(sentence._paint("red", "tiny-words", seed))) >= 1


def test_the_tab_is_laid_out_with_what_is_there(tmp_path, monkeypatch):
    with gr.Blocks() as page:
        sentence.tab()
    labels = {getattr(block, "label", None) for block in page.blocks.values()}
    assert {"Sentence", "Seed", "Word"} <= labels
    assert all(not each.api_visibility == "public" for each in page.fns.values())
    monkeypatch.setattr("colorhub.hub.local_variants", lambda kind: {})
    with gr.Blocks() as page:
        sentence.tab()
    assert len(page.fns) == 0


def test_pictures_are_the_same_whatever_torch_has_drawn():
    one = sentence.told("a red rose", "tiny-words", 1)[1]
    torch.rand(5)
    two = sentence.told("a red rose", "tiny-words", 1)[1]
    assert [each.tobytes() for each in one] == [each.tobytes() for each in two]
