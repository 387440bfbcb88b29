"""The app's tab for sentences: a picture after every word, and a slider back over them."""

from collections.abc import Iterator
from functools import lru_cache
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from colorhub import hub
from colorhub.errors import ColorhubError, OptionError
from colorhub.look import note
from colorhub.words import Heard, Painter

SCREEN = 448  # pixels of a picture's side
LONGEST = 500  # characters of a sentence
EXAMPLES = (
    "a photo of a yellow sunflower flower",
    "a photo of a purple rose flower",
    "a photo of a white water lily flower",
)
SEEDS = 1000


@lru_cache(maxsize=2)
def _painter(name: str) -> Painter:
    return Painter.from_pretrained(name)


def told(sentence: str, variant: str, seed: int) -> tuple[Heard, list[Image.Image]]:
    """What was heard of a sentence, and its words' pictures at screen size.

    Raises OptionError for a sentence that is too long or has no known word, or a variant that is
    none of those on this machine.
    """
    if variant not in hub.local_variants("text"):
        raise OptionError("Choose one of the variants that are listed.")
    if len(sentence) > LONGEST:
        raise OptionError(f"A sentence may have {LONGEST} characters here.")
    painter = _painter(variant)
    pictures = painter.paint(sentence, seed=seed)
    heard = painter.heard
    size = (SCREEN, SCREEN)
    return heard, [
        picture.resize(size, Image.Resampling.BICUBIC) for picture in pictures[-len(heard.words) :]
    ]


def _shown(heard: Heard, pictures: list[Image.Image], word: int) -> tuple[Any, str]:
    """The picture after a word, counted from 1, and the sentence with that word marked."""
    so_far = " ".join(heard.words[:word])
    words = [escape(each) for each in heard.words]
    words[word - 1] = f"<strong>{words[word - 1]}</strong>"
    picture = gr.Image(pictures[word - 1], alt_text=f"Picture after: {so_far}", visible=True)
    return picture, f'<p role="status">{" ".join(words)}</p>'


def _paint(sentence: str, variant: str, seed: float) -> Iterator[tuple[Any, ...]]:
    """The picture after each word; in the end what the slider needs, and what was not heard."""
    try:
        heard, pictures = told(sentence or "", variant or "", int(seed or 0))
    except ColorhubError as error:
        yield gr.skip(), "", gr.Slider(visible=False), None, note(str(error))
        return
    for word in range(1, len(pictures) + 1):
        yield *_shown(heard, pictures, word), gr.Slider(visible=False), None, note("")
    count = len(pictures)
    slider = gr.Slider(1, max(2, count), value=count, visible=count > 1)
    yield *_shown(heard, pictures, count), slider, (heard, pictures), note(heard.warning())


def _at(word: float, painted: tuple[Heard, list[Image.Image]] | None) -> tuple[Any, str]:
    if painted is None:
        return gr.skip(), ""
    return _shown(*painted, min(max(int(word), 1), len(painted[1])))


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
    painted = gr.State(None)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            sentence = gr.Textbox(
                EXAMPLES[0], label="Sentence", max_length=LONGEST, elem_id="sentence"
            )
            gr.Examples([[each] for each in EXAMPLES], sentence, label="Or one of these")
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
    for when in (go.click, sentence.submit):
        when(
            _paint, [sentence, variant, seed], [picture, words, place, painted, said],
            concurrency_limit=1, concurrency_id="model", trigger_mode="once", **private,
        )  # fmt: skip
    place.input(
        _at, [place, painted], [picture, words],
        trigger_mode="always_last", show_progress="hidden", **private,
    )  # fmt: skip
