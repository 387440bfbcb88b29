"""Two pictures of one photo, compared: behind a slider, beside each other, or one alone; zoomed.

Gradio's own slider has no text for those who do not see it, and cannot be zoomed. This one is an
HTML range, so every key that moves a range moves it; what is looked at closely in one picture is
looked at in the other, and in the strip of results, by the same CSS variables.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gradio as gr

SLIDER, BESIDE, LEFT, RIGHT = "Slider", "Side by side", "Grey photo", "Coloured photo"

TEMPLATE = """
<div class="stage" tabindex="0" role="group" aria-label="The photo, large. Plus and minus zoom, 0
shows all of it, arrow keys move it when zoomed.">
  <div class="pane left"><img alt="" draggable="false"></div>
  <div class="pane right"><img alt="" draggable="false"></div>
  <div class="line" aria-hidden="true"></div>
</div>
<div class="bar divide">
  <span class="name left"></span>
  <input type="range" min="0" max="100" step="1" value="50"
    aria-label="How much of the left picture is seen">
  <span class="name right"></span>
</div>
<div class="bar">
  <button type="button" class="flip" aria-pressed="false">Show the left one</button>
  <button type="button" class="out" aria-label="Zoom out">-</button>
  <output aria-label="Zoom">100 %</output>
  <button type="button" class="in" aria-label="Zoom in">+</button>
  <button type="button" class="fit">Whole photo</button>
  <button type="button" class="full">Full screen</button>
</div>
"""


@dataclass(frozen=True)
class Compared:
    """What a viewer shows: two pictures' paths, what they are, and how they are compared."""

    left: str
    right: str
    left_name: str
    right_name: str
    view: str = SLIDER

    @property
    def value(self) -> dict[str, Any]:
        """The viewer's value; Gradio gives addresses to the files in it."""
        return asdict(self) | {"left": _file(self.left), "right": _file(self.right)}


def viewer(first: Compared | None, *, elem_id: str) -> gr.HTML:
    """A component whose value is that of what is `Compared`."""
    look, script = (
        Path(__file__).with_suffix(ending).read_text(encoding="utf-8") for ending in (".css", ".js")
    )
    return gr.HTML(
        first.value if first else None, html_template=TEMPLATE, css_template=look,
        js_on_load=script, elem_id=elem_id,
    )  # fmt: skip


def _file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
