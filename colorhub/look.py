"""How the page looks: its colours, its stylesheet, and the small pieces of HTML it is told in."""

from collections.abc import Callable, Sequence
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from colorhub.errors import ColorhubError

CSS = """
.gradio-container { max-width: 1360px !important; }
:focus-visible { outline: 2px solid var(--color-accent) !important; outline-offset: 2px; }
:is(#examples, #blind-examples) {
  .grid-wrap { padding: 2rem 2px 2px; min-height: 0; height: auto; }
  .grid-container { gap: 0.5rem; padding: 0; }
  .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
  .caption-label { display: none; }
}
/* Of one height: a name typed to its end when the button is pressed must not move the button. */
#variants .wrap-inner { height: 9.5rem; overflow-y: auto; align-content: flex-start; }
#variants .secondary-wrap { order: -1; flex: 1 0 100%; }
:is(#note, #blind-note, #blind-verdict, #aside, #legend) p { margin: 0; overflow-wrap: anywhere; }
#legend { padding: 0 var(--block-padding); }
#legend .ramp > div { height: 1rem; background: #777; border-radius: 2px; }
#legend .ramp p { display: flex; justify-content: space-between; font-size: var(--text-sm); }
button[role="tab"].selected { color: var(--body-text-color) !important; }
footer { gap: 1.5rem; }
footer * { color: var(--body-text-color) !important; }
footer img, footer .divider { display: none !important; }
/* On a phone the result comes before the choice of variants. */
@media (max-width: 639px) {
  #compare { flex-direction: column; flex-wrap: nowrap; align-items: stretch; }
  #choices { display: contents; }
  :is(#choices > *, #outcome) { min-width: 0 !important; width: 100%; flex: 0 0 auto !important; }
  #outcome { order: 1; }
  #outcome > #pair { order: -2; }
  #outcome > #results { order: -1; }
  #choices > :is(#variants, #choices-more, :has(#variants)) { order: 2; }
}
/* Zoomed and moved with the large view, see viewer.py. */
#results img {
  transform: translate(var(--x, 0), var(--y, 0)) scale(var(--zoom, 1));
  transform-origin: 0 0;
}
#results .thumbnail-item { overflow: hidden; }
#results .grid-wrap { height: auto; min-height: 0; max-height: none; }
#results .grid-container { display: flex; overflow-x: auto; padding: 0; }
#results .gallery-item { flex: 0 0 auto; width: min(256px, 70vw); }
@media (min-width: 640px) { #results .grid-container { flex-wrap: wrap; } }
#results .thumbnail-item { display: block; width: 100%; height: auto; aspect-ratio: auto; }
#results .thumbnail-item img { height: auto; }
#results .caption-label { position: static; max-width: none; white-space: normal; }
:is(#card, #study) table { display: block; overflow-x: auto; max-width: 100%; }
:is(#card, #study) :is(th, td) { overflow-wrap: normal; word-break: normal; padding: 3px 8px; }
#card :is(pre, code) { white-space: pre-wrap !important; overflow-wrap: anywhere; }
#card .token { color: inherit !important; }
:is(#table, #blind-board) {
  table { width: 100%; border: 0; border-collapse: collapse; font-size: var(--text-sm); }
  :is(tr, th, td) { border: 0; border-bottom: 1px solid var(--border-color-primary); }
  :is(th, td) { text-align: left; vertical-align: top; padding: 3px 8px 3px 0; }
  td { overflow-wrap: anywhere; }
  td:first-child { min-width: 28vw; }
}
@media (min-width: 640px) { :is(#table, #blind-board) td:first-child { min-width: 180px; } }
@media (max-width: 639px) {
  #table :is(th, td):is(:nth-child(3), :nth-child(4)):not(:last-child) { display: none; }
}
:is(#blind-stage, #blind-note, #blind-board) .html-container { padding: 0; }
#blind-question h2 { margin: 0; font-size: var(--text-lg); }
#blind-board table { padding: 0; }
/* Cutting is done by a program that the page would fetch from elsewhere. */
#film button:is([title="Trim video to selection"], [title="Reset video to initial value"]) {
  display: none;
}
/* A button in a button, which no screen reader can tell: photos are chosen all at once. */
#photos .icon-button:has(button) { display: none; }
"""


def theme() -> gr.Theme:
    """Neutral greys around the pictures, for colours are judged by what surrounds them."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.neutral,
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_background_fill="*neutral_200",
        body_background_fill_dark="*neutral_900",
        block_background_fill="*neutral_100",
        block_background_fill_dark="*neutral_800",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_secondary_background_fill="*neutral_300",
        button_secondary_background_fill_dark="*neutral_700",
    )


def example_gallery(paths: Sequence[str], *, elem_id: str) -> gr.Gallery:
    """Photographs to try, of which a visitor picks one."""
    return gr.Gallery(
        [(path, Path(path).name.split(".")[0].capitalize()) for path in paths],
        label="Examples, from scikit-image", visible=bool(paths), elem_id=elem_id, columns=4,
        allow_preview=False, interactive=False, buttons=[], object_fit="cover", height="auto",
    )  # fmt: skip


def note(*sentences: str) -> str:
    return f'<p role="status">{escape(" ".join(sentences))}</p>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As HTML: Gradio's own table is neither narrow enough for a phone nor plain to a reader.

    Of a row whose second cell is empty only the first and the last are told, the last one wide.
    """
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = ""
    for row in rows:
        name, *cells = map(escape, row)
        wide = f'<td colspan="{len(cells)}">{cells[-1]}</td>'
        narrow = "".join(f"<td>{cell}</td>" for cell in cells)
        body += f"<tr><td>{name}</td>{narrow if cells[0] else wide}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def legend(tint: tuple[int, int, int], opacity: float, full: float, typical: float) -> str:
    """What the tint says: from none, for sure, to full at `full` Lab units and more."""
    marks = "".join(f"<span>{full * part / 4:.0f}</span>" for part in range(5))
    ramp = f"linear-gradient(to right, transparent, rgb({tint[0]} {tint[1]} {tint[2]} / {opacity}))"
    return (
        f'<div class="ramp" aria-hidden="true"><div style="background-image: {ramp}"></div>'
        f"<p>{marks}</p></div>"
        f'<p role="status">No tint: sure of the colour. Full orange: off by about {full:.0f} Lab '
        "units or more, which is another colour altogether. "
        f"Here it is {typical:.0f} on average.</p>"
    )


def polite(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make our refusals the page's: one sentence, no trace."""

    @wraps(function)
    def wrapped(*args: Any) -> Any:
        try:
            return function(*args)
        except ColorhubError as error:
            message = escape(str(error), quote=False)  # the page takes it for HTML
            raise gr.Error(message, None, title="Not possible", print_exception=False) from error

    return wrapped
