"""The app's tab Compare: its layout, and which click does what."""

import logging
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from colorhub import clicks
from colorhub.clicks import FORMATS, GREY, LIMITS, VIEWS
from colorhub.errors import OptionError
from colorhub.hub import list_variants
from colorhub.look import example_gallery, note
from colorhub.photos import save_photo
from colorhub.samples import bundled_photos
from colorhub.studio import AT_WORK, Colouring, Shown, ours_first
from colorhub.viewer import SLIDER, viewer

EXAMPLE = "This is an example, with other variants below it. Now choose a photo of yours."
FIDELITY = "Colours are inferred, not remembered: keep the original. Times are of this machine."
LINK = """(names, ...numbers) => {
    const words = ["seed", "strength", "saturation", "warmth", "gain"];
    const asked = new URLSearchParams({ variants: names.join(",") });
    words.forEach((word, place) => asked.set(word, numbers[place]));
    return `${location.origin}${location.pathname}?${asked}`;
}"""


def tab(demo: gr.Blocks) -> None:
    """Lay the tab out, where it is called; the page `demo` opens with an example coloured."""
    examples = [str(path) for path in sorted(Path(_examples().name).iterdir())]
    names = ours_first(list_variants())
    first = clicks.opening(examples[0], names[:3]) if examples else None
    with gr.Row(elem_id="compare"):
        with gr.Column(scale=2, min_width=320, elem_id="choices"):
            choices = _choices(examples, names, first)
        with gr.Column(scale=5, min_width=320, elem_id="outcome"):
            results = _results(first)
    _connect(demo, choices, results, first)


@lru_cache(maxsize=1)
def _examples() -> tempfile.TemporaryDirectory[str]:
    """A folder of example photos, in grey as old photos are; it goes when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="colorhub-examples-")
    try:
        for name, photo in bundled_photos().items():
            save_photo(photo.convert("L"), Path(folder.name, f"{name}.png"))
    except OptionError as error:
        logging.warning("No examples: %s", error)
    return folder


def _choices(examples: list[str], names: list[str], first: clicks.Opening | None) -> dict[str, Any]:
    """What to colour, by what: the left of the page."""
    part: dict[str, Any] = {}
    part["photo"] = gr.Image(
        *examples[:1], label="Photo", sources=["upload", "webcam", "clipboard"], type="filepath",
        image_mode=None, buttons=[], height=300, alt_text="The photo to colour", elem_id="photo",
    )  # fmt: skip
    part["example"] = example_gallery(examples, elem_id="examples")
    part["variants"] = gr.Dropdown(
        names, value=names[:3], multiselect=True, allow_custom_value=True, label="Variants",
        info="Any number. For one on the Hub type owner/name or owner/name@revision, then Enter.",
        elem_id="variants",
    )  # fmt: skip
    with gr.Row():
        part["go"] = gr.Button("Colour it", variant="primary", scale=3, min_width=120, elem_id="go")
        part["stop"] = gr.Button("Stop", scale=1, min_width=80, elem_id="stop")
    part["note"] = gr.HTML(note(EXAMPLE if first else ""), padding=False, elem_id="note")
    with gr.Accordion("More", open=False, elem_id="choices-more"):
        part["all"] = gr.Button("Choose all on this machine", size="sm", elem_id="all")
        part["hub"] = gr.Button("List variants on the Hub", size="sm", elem_id="hub")
        part["seed"] = gr.Number(
            0, label="Seed", precision=0, minimum=0, maximum=LIMITS["seed"][1],
            info="0 is the likeliest colouring. Other numbers are other plausible ones, "
            "from variants that have several.",
        )  # fmt: skip
        part["link"] = gr.Button("Make a link to these settings", size="sm", elem_id="link")
        part["url"] = gr.Textbox(
            label="Link, without the photo", buttons=["copy"], visible=False, elem_id="url"
        )
    return part


def _results(first: clicks.Opening | None) -> dict[str, Any]:
    """What came of it: the right of the page."""
    part: dict[str, Any] = {}
    part["pair"] = viewer(first.large if first else None, elem_id="pair")
    with gr.Row():
        with gr.Column(min_width=300):
            label = first.pictures[0][1] if first else "View"
            part["view"] = gr.Radio(list(VIEWS), value=SLIDER, label=label, elem_id="view")
            part["legend"] = gr.HTML(visible=False, padding=False, elem_id="legend")
            part["against"] = gr.Dropdown(
                clicks.sides(first.shown) if first else [GREY],
                value=GREY,
                label="Compared with, on the left",
                elem_id="against",
            )
        with gr.Column(min_width=300):
            part["look"] = _look()
    with gr.Row():
        part["save"] = gr.Button("Download at full size", min_width=150, elem_id="save")
        part["sheet"] = gr.Button("Download all on one sheet", min_width=150, elem_id="sheet")
        part["others"] = gr.Button("Other colourings", min_width=150, elem_id="others")
    with gr.Accordion("How to download", open=False):
        part["form"] = gr.Radio(
            list(FORMATS), value="As the photo", label="Format", elem_id="form",
            info="Size, 16 bits, transparency, EXIF, XMP, IPTC and resolution of the photo's file "
            "stay as far as the format holds them.",
        )  # fmt: skip
        part["noted"] = gr.Checkbox(
            label="Write into the file which variant coloured it", elem_id="noted"
        )
    part["file"] = gr.DownloadButton(visible="hidden", elem_id="file")
    part["aside"] = gr.HTML(padding=False, elem_id="aside")
    gr.Markdown(FIDELITY)
    part["strip"] = gr.Gallery(
        first.pictures if first else None, visible=first is not None, selected_index=0,
        format="png", show_label=False, allow_preview=False, interactive=False, buttons=[],
        object_fit="contain", elem_id="results",
    )  # fmt: skip
    part["table"] = gr.HTML(first.table if first else "", padding=False, elem_id="table")
    return part


def _look() -> list[Any]:
    """The sliders of `Adjustment`, in its order."""
    return [
        gr.Slider(
            *LIMITS["strength"], 1.0, step=0.05, label="Strength of the colours",
            elem_id="strength",
        ),
        gr.Slider(
            *LIMITS["saturation"], 1.0, step=0.05, label="Saturation of pale colours",
            elem_id="saturation",
        ),
        gr.Slider(*LIMITS["warmth"], 0.0, step=0.05, label="Warmth", elem_id="warmth"),
        gr.Slider(
            *LIMITS["gain"], 1.0, step=0.5, label="Gain", elem_id="gain",
            info="2 is the thesis's: 256 Lab units instead of 128 for an output of 1.",
        ),
    ]  # fmt: skip


def _connect(
    demo: gr.Blocks,
    choices: dict[str, Any],
    results: dict[str, Any],
    first: clicks.Opening | None,
) -> None:
    """Which click does what, on the page and in the API."""
    photo, chosen, seed, said = (choices[key] for key in ("photo", "variants", "seed", "note"))
    strip, look, aside = results["strip"], results["look"], results["aside"]
    view, against = results["view"], results["against"]
    shown, picked = gr.State(first and first.shown), gr.State(first and first.picked)
    asked_for = gr.Checkbox(visible="hidden", label="Colour when the page has opened")

    def restore(request: gr.Request) -> list[Any]:
        return clicks.restore(request, always=first is None)

    private: dict[str, Any] = {"api_visibility": "private"}
    asked = [shown, picked, view, against, *look]
    stage = [results[key] for key in ("pair", "view", "legend")]
    run: dict[str, Any] = {
        "fn": clicks.run,
        "inputs": [photo, chosen, seed, view, *look],
        "outputs": [said, aside, strip, results["table"], shown, picked, *stage, against],
        "show_progress_on": results["pair"],
        "preprocess": False,  # a file that is no photo is ours to refuse
    }
    linked = [asked_for, chosen, seed, *look]
    # Not in the queue: who only looks at the page is not told that others are busy.
    demo.load(restore, None, linked, queue=False, show_progress="hidden", **private)
    running = [
        asked_for.change(**run, **AT_WORK, **private),
        choices["go"].click(**run, **AT_WORK, **private),
    ]
    choices["link"].click(None, [chosen, seed, *look], choices["url"], js=LINK, **private).then(
        lambda: gr.Textbox(visible=True), None, choices["url"], **private
    )
    running += [
        results["others"].click(
            clicks.others,
            [shown, picked, *look],
            [aside, strip, shown, against],
            show_progress="hidden",
            **AT_WORK,
            **private,
        )
    ]
    stopped = (note("Stopped."), "")
    choices["stop"].click(lambda: stopped, None, [said, aside], cancels=running, **private)
    photo.upload(clicks.take, photo, [photo, said], preprocess=False, **private)
    choices["example"].select(clicks.example, choices["example"], photo, **private)
    choices["all"].click(lambda: ours_first(list_variants()), None, chosen, **private)
    choices["hub"].click(clicks.list_hub, None, [chosen, said], **private)

    def pick(shown: Shown, event: gr.SelectData) -> Colouring:
        return shown.colourings[event.index]

    quiet = {"show_progress": "hidden", "trigger_mode": "always_last", **private}
    strip.select(pick, shown, picked, **quiet).then(clicks.show, asked, stage, **quiet)
    for each in (view, against):
        each.input(clicks.show, asked, stage, **quiet)
    for slider in look:
        slider.input(clicks.show, asked, stage, **quiet)
        slider.input(clicks.strip, [shown, *look], strip, **quiet)
    click = "() => document.querySelector('#file').click()"
    wait: dict[str, Any] = {"show_progress_on": results["pair"], **private}
    how = [shown, picked, results["form"], results["noted"], *look]
    saved = results["save"].click(clicks.download, how, [results["file"], aside], **wait)
    saved.success(None, js=click, **private)
    sheet = results["sheet"].click(clicks.sheet, [shown, *look], results["file"], **wait)
    sheet.success(None, js=click, **private)
