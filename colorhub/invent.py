"""The app's tab of pictures from noise: a variant, a seed, a number, and the sheet they give."""

from functools import lru_cache
from typing import Any

import gradio as gr
from PIL import Image

from colorhub.errors import ColorhubError, OptionError
from colorhub.hub import local_variants
from colorhub.look import note
from colorhub.sampling import Sampler, sheet
from colorhub.studio import AT_WORK

MOST = 100  # pictures at a time
HEAD = "Pictures that never were, made of random numbers: each seed gives others."


def drawn(variant: str, seed: float | None, count: float | None) -> Image.Image:
    """A sheet of pictures. Raises OptionError for a variant of no such name or a bad number."""
    variants = local_variants("noise")
    if variant not in variants:
        raise OptionError(f"There is no variant {variant!r} that draws: choose one of the list.")
    for name, value in (("seed", seed), ("number", count)):
        if value is None or value != int(value):
            raise OptionError(f"The {name} must be a whole number.")
    assert seed is not None and count is not None
    if not 1 <= count <= MOST:
        raise OptionError(f"The number is {count:.0f}; from 1 to {MOST} are drawn at once here.")
    return sheet(_sampler(variant).sample(int(count), seed=int(seed)))


@lru_cache(maxsize=2)
def _sampler(variant: str) -> Sampler:
    return Sampler.from_pretrained(local_variants("noise")[variant].folder)


def _run(variant: str, seed: float | None, count: float | None) -> tuple[Any, str]:
    try:
        picture = drawn(variant, seed, count)
    except ColorhubError as error:
        return gr.skip(), note(str(error))
    told = f"{count:.0f} pictures drawn by {variant}, seed {seed:.0f}"
    return gr.Image(picture, alt_text=told, visible=True), note(f"{told}.")


def tab() -> None:
    """Lay the tab out, where it is called."""
    private: dict[str, Any] = {"api_visibility": "private"}
    names = list(local_variants("noise"))
    gr.Markdown(HEAD)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            variant = gr.Dropdown(
                names, value=names[0] if names else None, label="Variant", elem_id="noise-variant"
            )
            seed = gr.Number(0, precision=0, minimum=0, label="Seed", elem_id="noise-seed")
            count = gr.Slider(1, MOST, value=36, step=1, label="Number", elem_id="noise-count")
            go = gr.Button("Draw", variant="primary", elem_id="noise-go")
        with gr.Column(scale=3, min_width=280):
            said = gr.HTML(padding=False, elem_id="noise-note")
            shown = gr.Image(
                visible=False, show_label=False, interactive=False, format="png",
                buttons=["download", "fullscreen"], elem_id="noise-shown",
            )  # fmt: skip
    go.click(
        _run, [variant, seed, count], [shown, said],
        **AT_WORK, **private,
    )  # fmt: skip
