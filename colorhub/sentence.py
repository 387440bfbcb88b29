"""The app's tab for sentences: a picture after every word, and a slider back over them."""

import time
from collections.abc import Iterator
from functools import lru_cache
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from colorhub import hub
from colorhub.errors import ColorhubError, OptionError
from colorhub.look import note
from colorhub.studio import AT_WORK
from colorhub.words import Heard, Painter

SCREEN = 448  # pixels of a picture's side
LONGEST = 500  # characters of a sentence
EXAMPLES = (
    "a photo of a yellow sunflower flower",
    "a photo of a purple rose flower",
    "a photo of a white water lily flower",
)
SEEDS = 1000
PAUSE = 0.35  # seconds that a word's picture is shown


Painted = tuple[Heard, list[Image.Image]]
"""What was heard of a sentence, and the picture after each of its words."""


@lru_cache(maxsize=2)
def _painter(name: str) -> Painter:
    return Painter.from_pretrained(name, device="cpu")  # as fast as any, for so small a network


def painted(sentence: str, variant: str, seed: int) -> Painted:
    """A sentence's words and their pictures.

    Raises OptionError for a sentence that is too long or has no known word, or a variant that is
    none of those on this machine.
    """
    if variant not in hub.local_variants("text"):
        raise OptionError("Choose one of the variants that are listed.")
    if len(sentence) > LONGEST:
        raise OptionError(f"A sentence may have {LONGEST} characters here.")
    painter = _painter(variant)
    pictures = painter.paint(sentence, seed=seed)
    return painter.heard, pictures[len(pictures) - len(painter.heard.words) :]


def _paint(sentence: str, variant: str, seed: float) -> tuple[Painted | None, Any, str]:
    try:
        done = painted(sentence or "", variant or "", int(seed or 0))
    except ColorhubError as error:
        return None, gr.Slider(visible=False), note(str(error))
    return done, gr.Slider(visible=False), note(done[0].warning())


def _at(word: float, done: Painted | None) -> tuple[Any, str]:
    """The picture after a word, counted from 1, enlarged, and the words with that one marked."""
    if done is None:
        return gr.skip(), ""
    heard, pictures = done
    place = min(max(int(word), 1), len(pictures))
    picture = pictures[place - 1].resize((SCREEN, SCREEN), Image.Resampling.BICUBIC)
    words = [escape(each) for each in heard.words]
    words[place - 1] = f"<strong>{words[place - 1]}</strong>"
    so_far = f"Picture after: {' '.join(heard.words[:place])}"
    shown = gr.Image(picture, alt_text=so_far, visible=True)
    return shown, f'<p role="status">{" ".join(words)}</p>'


def _play(done: Painted | None) -> Iterator[tuple[Any, ...]]:
    """Word after word, slowly enough to watch; then the slider."""
    if done is None:
        yield gr.skip(), "", gr.skip()
        return
    count = len(done[1])
    for word in range(1, count):
        yield *_at(word, done), gr.skip()
        time.sleep(PAUSE)
    slider = gr.Slider(1, max(2, count), value=count, visible=count > 1)
    yield *_at(count, done), slider


def tab() -> None:
    """Lay the tab out, where it is called."""
    private: dict[str, Any] = {"api_visibility": "private"}
    names = sorted(hub.local_variants("text"))
    if not names:
        gr.Markdown("There is no variant of kind text on this machine.")
        return
    gr.Markdown(
        "Type what the picture should show, and watch it change with every word. The pictures are "
        "invented, small, and as good as the captions that the network has learned from."
    )
    done = gr.State(None)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            sentence = gr.Textbox(
                EXAMPLES[0], label="Sentence", max_length=LONGEST, elem_id="sentence"
            )
            examples = gr.Dataset(
                components=[gr.Textbox(visible=False)], samples=[[each] for each in EXAMPLES],
                label="Or one of these", elem_id="sentence-examples",
            )  # fmt: skip
            variant = gr.Dropdown(
                names, value=names[0], label="Variant", elem_id="sentence-variant",
                visible=len(names) > 1,
            )  # fmt: skip
            seed = gr.Slider(0, SEEDS, value=0, step=1, label="Seed", elem_id="sentence-seed")
            go = gr.Button("Paint it", variant="primary", elem_id="sentence-go")
        with gr.Column(scale=3, min_width=280):
            said = gr.HTML(padding=False, elem_id="sentence-note")
            words = gr.HTML(padding=False, elem_id="sentence-words")
            picture = gr.Image(
                visible=False, show_label=False, interactive=False, height=SCREEN,
                buttons=["download", "fullscreen"], elem_id="sentence-picture",
            )  # fmt: skip
            place = gr.Slider(
                1, 2, value=1, step=1, label="Word", visible=False, elem_id="sentence-word"
            )
    examples.click(lambda row: row[0], examples, sentence, **private)
    for when in (go.click, sentence.submit):
        painting = when(
            _paint, [sentence, variant, seed], [done, place, said],
            **AT_WORK, trigger_mode="once", **private,
        )  # fmt: skip
        painting.success(_play, done, [picture, words, place], show_progress="hidden", **private)
    place.input(
        _at, [place, done], [picture, words],
        trigger_mode="always_last", show_progress="hidden", **private,
    )  # fmt: skip
