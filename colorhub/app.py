"""The app: one photo, several variants side by side, in a browser and for `gradio_client`."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, wraps
from html import escape
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from colorhub.errors import ColorhubError, OptionError
from colorhub.hub import list_variants
from colorhub.photos import save_photo
from colorhub.samples import bundled_photos
from colorhub.studio import Result, Shown, colours, compared, new_file, opened, painted

SCREEN, THUMB = 1280, 480  # pixels of a picture's long side in the large view and in the strip
COLUMNS = ["name", "revision", "source", "seconds", "remark"]
SLIDER, GREY, COLOUR = "Slider", "Grey photo", "Coloured photo"
UNSEEN = (".tif", ".tiff", ".ppm", ".pgm")  # endings of pictures that browsers do not show
HEAD = """# colorhub
Your photo in colour, by several models. Choose a photo and variants, then press Colour it."""
FIDELITY = "Colours are inferred, not remembered: keep the original. Times are of this machine."
CSS = """
.gradio-container { max-width: 1360px !important; }
:focus-visible { outline: 2px solid var(--color-accent) !important; outline-offset: 2px; }
#examples .gallery { display: grid; grid-template-columns: repeat(4, 1fr); }
#examples .gallery span, #examples .gallery .container { display: block; width: 100%; }
#examples .gallery img { width: 100%; aspect-ratio: 1; object-fit: cover; }
/* Of one height: a name typed to its end when the button is pressed must not move the button. */
#variants .wrap-inner { height: 9.5rem; overflow-y: auto; align-content: flex-start; }
#variants .secondary-wrap { order: -1; flex: 1 0 100%; }
#note p { margin: 0; overflow-wrap: anywhere; }
footer { gap: 1.5rem; }
footer * { color: var(--body-text-color) !important; }
footer img, footer .divider { display: none !important; }
#alone img { width: 100%; height: 100%; object-fit: contain; }
#results .grid-wrap { height: auto; min-height: 0; max-height: none; }
#results .grid-container { display: flex; overflow-x: auto; padding: 0; }
#results .gallery-item { flex: 0 0 auto; width: min(256px, 70vw); }
@media (min-width: 640px) { #results .grid-container { flex-wrap: wrap; } }
#results .thumbnail-item { display: block; width: 100%; height: auto; aspect-ratio: auto; }
#results .thumbnail-item img { height: auto; }
#results .caption-label { position: static; max-width: none; white-space: normal; }
#table table { width: 100%; border: 0; border-collapse: collapse; font-size: var(--text-sm); }
#table tr, #table th, #table td { border: 0; border-bottom: 1px solid var(--border-color-primary); }
#table th, #table td { text-align: left; vertical-align: top; padding: 3px 8px 3px 0; }
#table td { overflow-wrap: anywhere; }
#table td:first-child { min-width: 20vw; }
@media (min-width: 640px) { #table td:first-child { min-width: 180px; } }
"""


# The API: what `gradio_client` calls.


def _polite(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make our refusals the page's: one sentence, no trace."""

    @wraps(function)
    def wrapped(*args: Any) -> Any:
        try:
            return function(*args)
        except ColorhubError as error:
            message = escape(str(error), quote=False)  # the page takes it for HTML
            raise gr.Error(message, None, title="Not possible", print_exception=False) from error

    return wrapped


def variants() -> list[str]:
    """Names of the variants on this machine; those on the Hub are named owner/name[@revision]."""
    return list_variants()


@_polite
def colorize(photo: str | None, variant: str, strength: float, seed: int) -> str:
    """Colour a photo: a picture of its own size, JPEG if it came as one, else PNG."""
    _, outcome = next(compared(photo, [variant] if variant else [], seed))
    if isinstance(outcome, str):
        raise OptionError(outcome)
    return painted(str(photo), outcome, strength)


@_polite
def compare(
    photo: str | None, variants: list[str], strength: float, seed: int
) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Colour a photo by several variants: pictures at screen size, and a row for each variant."""
    outcomes = dict(compared(photo, variants, seed))
    results = [outcome for outcome in outcomes.values() if isinstance(outcome, Result)]
    if not results:
        raise OptionError(" ".join(map(str, outcomes.values())))
    pictures = [(painted(str(photo), each, strength, SCREEN), each.caption) for each in results]
    return pictures, _rows(outcomes)


def _rows(outcomes: dict[str, Result | str]) -> list[list[str]]:
    rows = []
    for name, outcome in outcomes.items():
        if isinstance(outcome, str):
            rows.append([name, "", "", "", outcome])
        else:
            remark = "hardly any colour" if outcome.faint else ""
            source, seconds = outcome.variant.source, f"{outcome.seconds:.2f}"
            rows.append([name, outcome.revision, source, seconds, remark])
    return rows


# The page: what a visitor's clicks do.


def _note(*sentences: str) -> str:
    return f'<p role="status">{escape(" ".join(sentences))}</p>'


def _table(outcomes: dict[str, Result | str]) -> str:
    """As HTML: Gradio's own table is neither narrow enough for a phone nor plain to a reader."""
    head = "".join(f'<th scope="col">{column}</th>' for column in COLUMNS)
    body = ""
    for row in _rows(outcomes):
        name, *cells = map(escape, row)
        wide = f'<td colspan="{len(cells)}">{cells[-1]}</td>'  # of a failure there is but a remark
        narrow = "".join(f"<td>{cell}</td>" for cell in cells)
        body += f"<tr><td>{name}</td>{narrow if cells[0] else wide}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def _take(upload: dict[str, Any] | None) -> tuple[Any, str]:
    """Look at an upload at once: refuse what is no photo, convert what browsers cannot show."""
    path = Path(upload["path"] if upload else "")
    try:
        photo = opened(str(path))
    except ColorhubError as error:
        return None, _note(str(error))
    said = _note(f"{path.name}: {photo.width} x {photo.height} pixels.")
    if path.suffix.lower() not in UNSEEN:
        return gr.skip(), said
    shown = new_file(f"{path.stem}.png")
    save_photo(photo, shown)
    return str(shown), said


def _run(
    upload: dict[str, Any] | None, names: list[str], seed: int, strength: float, view: str
) -> Iterator[tuple[Any, ...]]:
    """Colour the photo, showing each result as it comes."""
    photo, seed, nothing = upload["path"] if upload else "", int(seed or 0), gr.skip()
    outcomes: dict[str, Result | str] = {}
    pictures: list[tuple[str, str]] = []
    shown = None
    try:
        yield *[nothing] * 7, _note("Colouring.")
        for name, outcome in compared(photo, names, seed):
            outcomes[name] = outcome
            stage: tuple[Any, ...] = (nothing,) * 4
            if isinstance(outcome, Result):
                pictures.append((painted(photo, outcome, strength, THUMB), outcome.caption))
                if shown is None:
                    shown = Shown(photo, painted(photo, outcome, 0, SCREEN), seed, ())
                shown = replace(shown, variants=(*shown.variants, outcome.variant))
                if len(pictures) == 1:
                    stage = (0, *_stage(shown, 0, strength, view))
            strip = gr.Gallery(pictures, visible=bool(pictures))
            said = _said(outcomes, len(set(names)))
            yield strip, _table(outcomes), shown, *stage, _note(*said)
    except ColorhubError as error:
        yield *[nothing] * 7, _note(str(error))


def _said(outcomes: dict[str, Result | str], asked: int) -> list[str]:
    """What the visitor reads beside the button: how far it is, and what went wrong."""
    faint = [name for name, each in outcomes.items() if isinstance(each, Result) and each.faint]
    said = [each for each in outcomes.values() if isinstance(each, str)]
    if faint:
        hint = "try another variant or more strength."
        said.append(f"Hardly any colour from {', '.join(faint)}: {hint}")
    left = asked - len(outcomes)
    done = "Done. Pick a result to see it large." if len(said) < asked or faint else ""
    return [f"{left} still to come." if left else done, *said]


def _stage(shown: Shown, picked: int, strength: float, view: str) -> tuple[Any, Any, Any]:
    """The picked result, large: over the grey photo with a slider, or one of the two alone."""
    result = colours(shown.photo, shown.variants[picked], shown.seed)
    coloured = painted(shown.photo, result, strength, SCREEN)
    alone, alt = coloured, f"Photo colourised by {result.variant.name}"
    if view == GREY:
        alone, alt = shown.grey, "The photo in grey"
    return (
        gr.ImageSlider((shown.grey, coloured), visible=view == SLIDER),
        gr.Image(alone, alt_text=alt, visible=view != SLIDER),
        gr.Radio(label=result.caption),
    )


@_polite
def _show(shown: Shown | None, picked: int, strength: float, view: str) -> tuple[Any, ...]:
    """Paint the large view again. The network is not asked."""
    return _stage(shown, picked, strength, view) if shown else (gr.skip(),) * 3


@_polite
def _strip(shown: Shown | None, strength: float) -> Any:
    """Paint the small pictures again."""
    if shown is None:
        return gr.skip()
    results = [colours(shown.photo, variant, shown.seed) for variant in shown.variants]
    return [(painted(shown.photo, each, strength, THUMB), each.caption) for each in results]


@_polite
def _download(shown: Shown | None, picked: int, strength: float) -> str:
    if shown is None:
        raise OptionError("There is nothing to download yet: colour a photo first.")
    result = colours(shown.photo, shown.variants[picked], shown.seed)
    return painted(shown.photo, result, strength)


def _list_hub() -> tuple[Any, str]:
    here = list_variants()
    try:
        names = list_variants(hub=True)
    except ColorhubError as error:
        return gr.Dropdown(choices=here), _note(str(error), "Variants on this machine still work.")
    said = f"The Hub has {len(names) - len(here)} more: they are in the list now."
    return gr.Dropdown(choices=names), _note(said)


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


# The layout.


def build() -> gr.Blocks:
    """The page and the API, not yet served."""
    examples = [str(path) for path in sorted(Path(_examples().name).iterdir())]
    kept = (3600, 4 * 3600)  # look every hour for files older than four
    with gr.Blocks(title="colorhub", analytics_enabled=False, delete_cache=kept) as demo:
        gr.Markdown(HEAD)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                choices = _choices(examples)
            with gr.Column(scale=5, min_width=320):
                results = _results(examples)
        _connect(demo, choices, results)
    return demo.queue(max_size=32)


def _choices(examples: list[str]) -> dict[str, Any]:
    """What to colour, by what: the left of the page."""
    part: dict[str, Any] = {}
    part["photo"] = gr.Image(
        *examples[:1], label="Photo", sources=["upload", "clipboard"], type="filepath",
        image_mode=None, buttons=[], height=300, alt_text="The photo to colour", elem_id="photo",
    )  # fmt: skip
    part["example"] = gr.Dataset(
        components=[gr.Image(visible=False)], samples=[[path] for path in examples],
        label="Examples, from scikit-image", visible=bool(examples), elem_id="examples",
    )  # fmt: skip
    names = sorted(list_variants(), key=lambda name: name != "natural")  # our own comes first
    part["variants"] = gr.Dropdown(
        names, value=names[:2], multiselect=True, allow_custom_value=True, label="Variants",
        info="Any number. For one on the Hub type owner/name or owner/name@revision, then Enter.",
        elem_id="variants",
    )  # fmt: skip
    with gr.Row():
        part["go"] = gr.Button("Colour it", variant="primary", scale=3, min_width=120, elem_id="go")
        part["stop"] = gr.Button("Stop", scale=1, min_width=80, elem_id="stop")
    part["note"] = gr.HTML(padding=False, elem_id="note")
    with gr.Accordion("More", open=False):
        part["hub"] = gr.Button("List variants on the Hub", size="sm", elem_id="hub")
        part["seed"] = gr.Number(
            0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1,
            info="Another number, other colours, from variants that roll dice.",
        )  # fmt: skip
    return part


def _results(examples: list[str]) -> dict[str, Any]:
    """What came of it: the right of the page."""
    part: dict[str, Any] = {}
    first = (examples[0], examples[0]) if examples else None  # until there is a result
    part["pair"] = gr.ImageSlider(
        first, format="png", show_label=False, buttons=["fullscreen"], interactive=False,
        max_height=620, elem_id="pair",
    )  # fmt: skip
    part["alone"] = gr.Image(
        visible=False, show_label=False, interactive=False, buttons=["fullscreen"],
        height="min(620px, 90vw)", elem_id="alone",
    )  # fmt: skip
    with gr.Row():
        views = [SLIDER, GREY, COLOUR]
        part["view"] = gr.Radio(views, value=SLIDER, label="View", min_width=300, elem_id="view")
        part["strength"] = gr.Slider(
            0, 2, 1.0, step=0.05, label="Strength of the colours", min_width=300, elem_id="strength"
        )  # fmt: skip
    part["save"] = gr.Button("Download at full size", elem_id="save")
    part["file"] = gr.DownloadButton(visible="hidden", elem_id="file")
    gr.Markdown(FIDELITY)
    part["strip"] = gr.Gallery(
        visible=False, format="png", show_label=False, allow_preview=False, interactive=False,
        buttons=[], object_fit="contain", elem_id="results",
    )  # fmt: skip
    part["table"] = gr.HTML(padding=False, elem_id="table")
    return part


def _connect(demo: gr.Blocks, choices: dict[str, Any], results: dict[str, Any]) -> None:
    """Which click does what, on the page and in the API."""
    photo, chosen, seed, note = (choices[key] for key in ("photo", "variants", "seed", "note"))
    strip, strength = results["strip"], results["strength"]
    shown, picked = gr.State(None), gr.State(0)
    model: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
    private: dict[str, Any] = {"api_visibility": "private"}
    asked = [shown, picked, strength, results["view"]]
    stage = [results["pair"], results["alone"], results["view"]]
    run: dict[str, Any] = {
        "fn": _run,
        "inputs": [photo, chosen, seed, strength, results["view"]],
        "outputs": [strip, results["table"], shown, picked, *stage, note],
        "show_progress_on": results["pair"],
        "preprocess": False,  # a file that is no photo is ours to refuse
    }
    running = [demo.load(**run, **model, **private), choices["go"].click(**run, **model, **private)]
    choices["stop"].click(lambda: _note("Stopped."), None, note, cancels=running, **private)
    photo.upload(_take, photo, [photo, note], preprocess=False, **private)
    choices["example"].click(lambda row: row[0], choices["example"], photo, **private)
    choices["hub"].click(_list_hub, None, [chosen, note], **private)

    def pick(event: gr.SelectData) -> Any:
        return event.index

    quiet = {"show_progress": "hidden", "trigger_mode": "always_last", **private}
    strip.select(pick, None, picked, **quiet).then(_show, asked, stage, **quiet)
    results["view"].input(_show, asked, stage, **quiet)
    strength.input(_show, asked, stage, **quiet)
    strength.input(_strip, [shown, strength], strip, **quiet)
    click = "() => document.querySelector('#file').click()"
    saved = results["save"].click(
        _download, asked[:3], results["file"], show_progress_on=results["pair"], **private
    )
    saved.success(None, js=click, **private)
    _connect_api(chosen, strength, seed, strip, model)


def _connect_api(chosen: Any, strength: Any, seed: Any, strip: Any, model: dict[str, Any]) -> None:
    with gr.Group(visible=False):
        api, photo = gr.Button(), gr.File(label="photo")
        name, coloured = gr.Textbox(label="variant"), gr.File(label="coloured photo")
        table = gr.Dataframe(headers=COLUMNS, datatype="str", label="table")
    api.click(colorize, [photo, name, strength, seed], coloured, api_name="colorize", **model)
    api.click(compare, [photo, chosen, strength, seed], [strip, table], api_name="compare", **model)
    gr.api(variants, api_name="variants")


def _theme() -> gr.Theme:
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
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_secondary_background_fill="*neutral_300",
        button_secondary_background_fill_dark="*neutral_700",
    )


def launch(host: str = "127.0.0.1", port: int = 7860, demo: gr.Blocks | None = None) -> None:
    """Serve the app until it is interrupted. Raises OptionError if the port is taken."""
    try:
        (demo or build()).launch(
            server_name=host,
            server_port=port,
            theme=_theme(),
            css=CSS,
            max_file_size="100mb",
            footer_links=["api", "settings"],
            run_history=False,  # it would keep visitors' photos in their browsers
            enable_monitoring=False,
            ssr_mode=False,
        )
    except OSError as error:
        raise OptionError(f"{host}:{port} cannot be served: choose another port.") from error
