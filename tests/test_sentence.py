"""Sentences in the app: a picture after every word."""

import pytest
import torch
from conftest import serving
from test_app import ARGUMENTS, CHROMIUM
from test_words import make_network

from colorhub import weights
from colorhub.errors import OptionError

pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
sentence = pytest.importorskip("colorhub.sentence")


PAGE = """
import gradio as gr
from colorhub import sentence
with gr.Blocks() as page:
    sentence.tab()
page.queue().launch(server_name="127.0.0.1", server_port={port}, quiet=True)
"""


@pytest.fixture(autouse=True)
def flowers(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(tmp_path))
    sentence._painter.cache_clear()
    weights.save(make_network(), tmp_path / "tiny-words")


def test_each_word_s_picture_is_shown_and_the_slider_goes_back(monkeypatch):
    monkeypatch.setattr(sentence, "PAUSE", 0)
    done, slider, said = sentence._paint("a red tulip rose", "tiny-words", 0)
    assert not slider.visible and "Unknown, and passed over: tulip." in said
    heard, pictures = done
    assert len(pictures) == len(heard.words) == 3
    events = list(sentence._play(done))
    for word, (picture, words, _) in enumerate(events, 1):
        assert f"<strong>{heard.words[word - 1]}</strong>" in words
        assert picture.alt_text == "Picture after: " + " ".join(("a", "red", "rose")[:word])
        assert picture.value
    assert len(events) == 3
    slider = events[-1][-1]
    assert slider.visible and slider.maximum == slider.value == 3
    picture, words = sentence._at(2, done)
    assert picture.alt_text == "Picture after: a red" and "<strong>red</strong>" in words
    assert sentence._at(2, None)[1] == "" and len(list(sentence._play(None))) == 1
    one_word = sentence._paint("red", "tiny-words", None)[0]
    assert not next(iter(sentence._play(one_word)))[-1].visible


def test_what_cannot_be_painted_is_said_and_the_slider_goes():
    for text, variant, seed, words in (
        ("tulip <b>", "tiny-words", 0, "None of these words is known: tulip, b"),
        ("", "tiny-words", 0, "There is no word"),
        ("red", "../tiny-words", 0, "Choose one of the variants"),
        ("red", "cwgan", 0, "Choose one of the variants"),
        ("red " * 200, "tiny-words", 0, "500 characters"),
        ("red", "tiny-words", -1, "--seed is -1"),
    ):
        done, slider, said = sentence._paint(text, variant, seed)
        assert words in said and done is None and not slider.visible
        with pytest.raises(OptionError, match=words):
            sentence.painted(text, variant, seed)


def test_a_visitor_watches_a_sentence_and_goes_back_over_its_words(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium or google-chrome on this machine")
    weights.save(make_network(), tmp_path / "variants" / "a-tiny")  # the first of the list
    with serving(PAGE, tmp_path) as address, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        page = browser.new_page()
        page.set_default_timeout(120_000)  # training may run beside the tests
        page.goto(address)
        page.get_by_label("Sentence").fill("a red tulip rose")
        page.click("#sentence-go")
        page.wait_for_selector('#sentence-picture img[alt="Picture after: a red rose"]')
        page.wait_for_selector("#sentence-note :text('Unknown, and passed over: tulip.')")
        page.focus("#sentence-word input[type=range]")
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector('#sentence-picture img[alt="Picture after: a red"]')
        browser.close()


def test_pictures_are_the_same_whatever_torch_has_drawn():
    one = sentence.painted("a red rose", "tiny-words", 1)[1]
    torch.rand(5)
    two = sentence.painted("a red rose", "tiny-words", 1)[1]
    assert [each.tobytes() for each in one] == [each.tobytes() for each in two]
