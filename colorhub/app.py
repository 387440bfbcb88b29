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
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # likewise by torch, see cli.main

import gradio as gr

from colorhub import learn, several, studio
from colorhub.adjustment import Adjustment
from colorhub.errors import ColorhubError, OptionError
from colorhub.hub import list_variants
from colorhub.look import CSS, legend, note, table, theme
from colorhub.photos import save_photo
from colorhub.samples import bundled_photos
from colorhub.studio import Colouring, Result, Shown, colours, compared, new_file, opened, painted

SCREEN, THUMB = 1280, 480  # pixels of a picture's long side in the large view and in the strip
COLUMNS = ["name", "revision", "source", "seconds", "remark"]
SLIDER, GREY, COLOUR, UNSURE = "Slider", "Grey photo", "Coloured photo", "Uncertainty"
LIMITS = {
    "seed": (0, 2**32 - 1),
    "strength": (0, 2),
    "saturation": (0, 2),
    "warmth": (-1, 1),
    "gain": (0.5, 2),
}
FORMATS = {"As the photo": "", "JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif"}
UNSEEN = (".tif", ".tiff", ".ppm", ".pgm")  # endings of pictures that browsers do not show
HEAD = """# colorhub
Your photo in colour, by several models. Choose a photo and variants, then press Colour it."""
FIDELITY = "Colours are inferred, not remembered: keep the original. Times are of this machine."


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
    """Colour a photo: a file of its own size and format, with all that its file holds."""
    _, outcome = next(compared(photo, [variant] if variant else [], seed))
    if isinstance(outcome, str):
        raise OptionError(outcome)
    path, _ = studio.taken_home(str(photo), outcome, Adjustment(strength))
    return path


@_polite
def compare(
    photo: str | None, variants: list[str], strength: float, seed: int
) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Colour a photo by several variants: pictures at screen size, and a row for each variant."""
    outcomes = dict(compared(photo, variants, seed))
    results = [outcome for outcome in outcomes.values() if isinstance(outcome, Result)]
    if not results:
        raise OptionError(" ".join(map(str, outcomes.values())))
    how = Adjustment(strength)
    pictures = [(painted(str(photo), each, how, SCREEN), each.caption) for each in results]
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


def _take(upload: dict[str, Any] | None) -> tuple[Any, str]:
    """Look at an upload at once: refuse what is no photo, convert what browsers cannot show."""
    path = Path(upload["path"] if upload else "")
    try:
        photo = opened(str(path))
    except ColorhubError as error:
        return None, note(str(error))
    said = note(f"{path.name}: {photo.width} x {photo.height} pixels.")
    if path.suffix.lower() not in UNSEEN:
        return gr.skip(), said
    shown = new_file(f"{path.stem}.png")
    save_photo(photo, shown)
    return str(shown), said


def _run(
    upload: dict[str, Any] | None, names: list[str], seed: int, view: str, *look: float
) -> Iterator[tuple[Any, ...]]:
    """Colour the photo, showing each result as it comes; `look` are the sliders of `Adjustment`."""
    photo, seed, nothing = upload["path"] if upload else "", int(seed or 0), gr.skip()
    outcomes: dict[str, Result | str] = {}
    pictures: list[tuple[str, str]] = []
    shown = None
    try:
        how = Adjustment(*look)
        yield note("Colouring."), "", *[nothing] * 9
        for name, outcome in compared(photo, names, seed):
            outcomes[name] = outcome
            first: tuple[Any, ...] = (nothing,) * 6
            mark: dict[str, Any] = {}
            if isinstance(outcome, Result):
                pictures.append((painted(photo, outcome, how, THUMB), outcome.caption))
                colouring = Colouring(photo, outcome.variant, seed)
                if shown is None:
                    grey = painted(photo, outcome, Adjustment(0), SCREEN)
                    shown = Shown(photo, grey, seed, (colouring,))
                    first = (colouring, *_stage(shown, colouring, view, GREY, how))
                    mark = {"selected_index": 0}
                else:
                    shown = replace(shown, colourings=(*shown.colourings, colouring))
                begun: dict[str, Any] = {} if len(shown.colourings) > 1 else {"value": GREY}
                first = (*first[:5], _sides(shown, **begun))
            strip = gr.Gallery(pictures, visible=bool(pictures), **mark)
            said = note(*_said(outcomes, len(set(names))))
            yield said, nothing, strip, table(COLUMNS, _rows(outcomes)), shown, *first
    except ColorhubError as error:
        yield note(str(error)), *[nothing] * 10


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


def _sides(shown: Shown, **chosen: Any) -> Any:
    """What a result can be compared with: the grey photo, or another result."""
    others = [(shown.caption(colours(each)), _key(each)) for each in shown.colourings]
    return gr.Dropdown([GREY, *others], **chosen)


def _key(colouring: Colouring) -> str:
    return f"{colouring.variant.name} {colouring.seed}"


def _stage(
    shown: Shown, picked: Colouring, view: str, against: str, how: Adjustment
) -> tuple[Any, ...]:
    """The picked result, large: beside another or the grey photo with a slider, or alone."""
    result = colours(picked)
    name, said = result.variant.name, ""
    coloured = painted(shown.photo, result, how, SCREEN)
    other = shown.grey
    for each in shown.colourings:
        if _key(each) == against:
            other = painted(shown.photo, colours(each), how, SCREEN)
    alone, alt = coloured, f"Photo colourised by {name}"
    unsure = studio.uncertainty(picked) if view == UNSURE else None
    if view == GREY:
        alone, alt = shown.grey, "The photo in grey"
    elif unsure is not None:
        alone = studio.veiled(shown.photo, result, unsure, SCREEN)
        alt = f"The photo in grey, tinted orange where {name} is unsure of its colours"
        said = legend(studio.TINT, studio.OPACITY, studio.UNSURE, float(unsure.mean()))
    elif view == UNSURE:
        said = note(f"{name} does not say how sure it is: this is its coloured photo.")
    return (
        gr.ImageSlider((other, coloured), visible=view == SLIDER),
        gr.Image(alone, alt_text=alt, visible=view != SLIDER),
        gr.Radio(label=shown.caption(result)),
        gr.HTML(said, visible=bool(said)),
    )


@_polite
def _show(
    shown: Shown | None, picked: Colouring | None, view: str, against: str, *look: float
) -> tuple[Any, ...]:
    """Paint the large view again. The network is asked only how sure it is, and only once."""
    if not (shown and picked):
        return (gr.skip(),) * 4
    return _stage(shown, picked, view, against, Adjustment(*look))


@_polite
def _strip(shown: Shown | None, *look: float) -> Any:
    """Paint the small pictures again."""
    if shown is None:
        return gr.skip()
    results, how = map(colours, shown.colourings), Adjustment(*look)
    return [(painted(shown.photo, each, how, THUMB), shown.caption(each)) for each in results]


def _others(
    shown: Shown | None, picked: Colouring | None, *look: float
) -> Iterator[tuple[Any, ...]]:
    """Add other colourings by the picked variant to the strip, each as it comes."""
    nothing = gr.skip()
    if not (shown and picked):
        yield note("There is nothing to vary yet: colour a photo first."), *[nothing] * 3
        return
    try:
        yield note("Colouring."), *[nothing] * 3
        for count, grown in enumerate(studio.others(shown, picked)):
            # Once only: the visitor may pick another before the last has come.
            mark: dict[str, Any] = (
                {} if count else {"selected_index": grown.colourings.index(picked)}
            )
            strip = gr.Gallery(_strip(grown, *look), **mark)
            left = studio.OTHERS - sum(each.seed != shown.seed for each in grown.colourings)
            yield note(f"{left} still to come."), strip, grown, _sides(grown)
        yield note(f"Other colourings by {picked.variant.name}: pick one."), *[nothing] * 3
    except ColorhubError as error:
        yield note(str(error)), *[nothing] * 3


@_polite
def _download(
    shown: Shown | None, picked: Colouring | None, form: str, noted: bool, *look: float
) -> tuple[str, str]:
    """The picked result at full size, and what its format could not hold."""
    if not (shown and picked):
        raise OptionError("There is nothing to download yet: colour a photo first.")
    path, warnings = studio.taken_home(
        shown.photo,
        colours(picked),
        Adjustment(*look),
        ending=FORMATS[form],
        note=noted,
        seed=picked.seed != shown.seed,
    )
    said = "; ".join(warnings)
    return path, note(f"{Path(path).name}: {said}." if said else "")


@_polite
def _sheet(shown: Shown | None, *look: float) -> str:
    """The photo and all results as one picture."""
    if shown is None:
        raise OptionError("There is nothing to download yet: colour a photo first.")
    return studio.sheet(shown, Adjustment(*look))


LINK = """(names, ...numbers) => {
    const words = ["seed", "strength", "saturation", "warmth", "gain"];
    const asked = new URLSearchParams({ variants: names.join(",") });
    words.forEach((word, place) => asked.set(word, numbers[place]));
    return `${location.origin}${location.pathname}?${asked}`;
}"""


def _restore(request: gr.Request) -> list[Any]:
    """What a link says: variants, seed and sliders; what it does not, or says wrongly, stays."""
    asked = dict(request.query_params) if request else {}
    names = [name for name in asked.get("variants", "").split(",") if name.strip()]
    found: list[Any] = [names[: studio.MANY] if names else gr.skip()]
    for word, (least, most) in LIMITS.items():
        try:
            number = float(asked[word])
        except (KeyError, ValueError):
            number = float("nan")
        found.append(number if least <= number <= most else gr.skip())
    return found


def _list_hub() -> tuple[Any, str]:
    here = _ours_first(list_variants())
    try:
        names = _ours_first(list_variants(hub=True))
    except ColorhubError as error:
        return gr.Dropdown(choices=here), note(str(error), "Variants on this machine still work.")
    said = f"The Hub has {len(names) - len(here)} more: they are in the list now."
    return gr.Dropdown(choices=names), note(said)


def _ours_first(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: name != "natural")


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
        with gr.Tabs():
            with gr.Tab("Compare", id="compare"):
                with gr.Row():
                    with gr.Column(scale=2, min_width=320):
                        choices = _choices(examples)
                    with gr.Column(scale=5, min_width=320):
                        results = _results(examples)
                _connect(demo, choices, results)
            with gr.Tab("Several photos", id="several"):
                several.tab()
            with gr.Tab("Models", id="models") as models:
                learn.tab(models)
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
    names = _ours_first(list_variants())
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
        with gr.Column(min_width=300):
            views = [SLIDER, GREY, COLOUR, UNSURE]
            part["view"] = gr.Radio(views, value=SLIDER, label="View", elem_id="view")
            part["legend"] = gr.HTML(visible=False, padding=False, elem_id="legend")
            part["against"] = gr.Dropdown(
                [GREY], value=GREY, label="On the slider's left", elem_id="against"
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
        visible=False, format="png", show_label=False, allow_preview=False, interactive=False,
        buttons=[], object_fit="contain", elem_id="results",
    )  # fmt: skip
    part["table"] = gr.HTML(padding=False, elem_id="table")
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


def _connect(demo: gr.Blocks, choices: dict[str, Any], results: dict[str, Any]) -> None:
    """Which click does what, on the page and in the API."""
    photo, chosen, seed, said = (choices[key] for key in ("photo", "variants", "seed", "note"))
    strip, look, aside = results["strip"], results["look"], results["aside"]
    view, against = results["view"], results["against"]
    shown, picked = gr.State(None), gr.State(None)
    model: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
    private: dict[str, Any] = {"api_visibility": "private"}
    asked = [shown, picked, view, against, *look]
    stage = [results[key] for key in ("pair", "alone", "view", "legend")]
    run: dict[str, Any] = {
        "fn": _run,
        "inputs": [photo, chosen, seed, view, *look],
        "outputs": [said, aside, strip, results["table"], shown, picked, *stage, against],
        "show_progress_on": results["pair"],
        "preprocess": False,  # a file that is no photo is ours to refuse
    }
    restored = demo.load(_restore, None, [chosen, seed, *look], **private)
    running = [
        restored.then(**run, **model, **private),
        choices["go"].click(**run, **model, **private),
    ]
    choices["link"].click(None, [chosen, seed, *look], choices["url"], js=LINK, **private).then(
        lambda: gr.Textbox(visible=True), None, choices["url"], **private
    )
    running += [
        results["others"].click(
            _others,
            [shown, picked, *look],
            [aside, strip, shown, against],
            show_progress="hidden",
            **model,
            **private,
        )
    ]
    stopped = (note("Stopped."), "")
    choices["stop"].click(lambda: stopped, None, [said, aside], cancels=running, **private)
    photo.upload(_take, photo, [photo, said], preprocess=False, **private)
    choices["example"].click(lambda row: row[0], choices["example"], photo, **private)
    choices["all"].click(lambda: _ours_first(list_variants()), None, chosen, **private)
    choices["hub"].click(_list_hub, None, [chosen, said], **private)

    def pick(shown: Shown, event: gr.SelectData) -> Colouring:
        return shown.colourings[event.index]

    quiet = {"show_progress": "hidden", "trigger_mode": "always_last", **private}
    strip.select(pick, shown, picked, **quiet).then(_show, asked, stage, **quiet)
    for each in (view, against):
        each.input(_show, asked, stage, **quiet)
    for slider in look:
        slider.input(_show, asked, stage, **quiet)
        slider.input(_strip, [shown, *look], strip, **quiet)
    click = "() => document.querySelector('#file').click()"
    wait: dict[str, Any] = {"show_progress_on": results["pair"], **private}
    how = [shown, picked, results["form"], results["noted"], *look]
    saved = results["save"].click(_download, how, [results["file"], aside], **wait)
    saved.success(None, js=click, **private)
    sheet = results["sheet"].click(_sheet, [shown, *look], results["file"], **wait)
    sheet.success(None, js=click, **private)
    _connect_api(chosen, look[0], seed, strip, model)


def _connect_api(chosen: Any, strength: Any, seed: Any, strip: Any, model: dict[str, Any]) -> None:
    with gr.Group(visible=False):
        api, photo = gr.Button(), gr.File(label="photo")
        name, coloured = gr.Textbox(label="variant"), gr.File(label="coloured photo")
        table = gr.Dataframe(headers=COLUMNS, datatype="str", label="table")
    api.click(colorize, [photo, name, strength, seed], coloured, api_name="colorize", **model)
    api.click(compare, [photo, chosen, strength, seed], [strip, table], api_name="compare", **model)
    gr.api(variants, api_name="variants")


def launch(host: str = "127.0.0.1", port: int = 7860, demo: gr.Blocks | None = None) -> None:
    """Serve the app until it is interrupted. Raises OptionError if the port is taken."""
    try:
        (demo or build()).launch(
            server_name=host,
            server_port=port,
            theme=theme(),
            css=CSS,
            max_file_size="100mb",
            footer_links=["api", "settings"],
            run_history=False,  # it would keep visitors' photos in their browsers
            enable_monitoring=False,
            ssr_mode=False,
        )
    except OSError as error:
        raise OptionError(f"{host}:{port} cannot be served: choose another port.") from error
