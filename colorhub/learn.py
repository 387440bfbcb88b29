"""The app's tab of models: cards, losses, samples, and a network's colours epoch by epoch."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from PIL import Image

from colorhub import hub, studio, uploads
from colorhub.adjustment import Adjustment
from colorhub.errors import ColorhubError, OptionError
from colorhub.look import note
from colorhub.tables import beside_table
from colorhub.weights import WEIGHTS

SCREEN = 1280  # pixels of a picture's long side
# Wide tables scroll, which they must by keys as well.
REACHED_BY_KEYS = """() => {
    const tab = document.querySelector("#card").closest(".tabitem, body");
    const reach = () => tab.querySelectorAll(".prose table").forEach(each => {
        each.tabIndex = 0;
    });
    new MutationObserver(reach).observe(tab, { childList: true, subtree: true });
    reach();
}"""
_NO_LOSSES = ("step", "epoch", "images_per_second")
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?://)[^)]*\)")  # to files beside the card
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)\n*")  # shown in a gallery of their own


def card(name: str) -> str:
    """A variant's card without its front matter, pictures and links to files beside it."""
    variant = hub.local_variants(None).get(name)
    text = (hub.card(variant) if variant else None) or "This variant has no card."
    return _LINK.sub(r"\1", _PICTURE.sub("", _FRONT.sub("", text)))


def losses(name: str) -> pd.DataFrame:
    """The log of a variant's training: step, loss and its value, a row each."""
    variant = hub.local_variants(None).get(name)
    path = variant.folder / "training_log.csv" if variant else Path()
    rows = []
    if path.is_file():
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                for loss, value in line.items():
                    if loss not in _NO_LOSSES and not loss.endswith("lr") and value:
                        rows.append((int(line["step"]), loss, float(value)))
    return pd.DataFrame(rows, columns=["step", "loss", "value"])


def samples(name: str) -> list[Image.Image]:
    """The pictures of a variant's folder."""
    variant = hub.local_variants(None).get(name)
    paths = sorted((variant.folder / "samples").glob("*.[jp][pn]g")) if variant else []
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(picture.convert("RGB"))
    return pictures


def epochs(repository: str) -> list[str]:
    """The tags epoch-N of a repository on the Hub, in order. Raises HubError or OptionError."""
    name = repository.strip()
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name) or ".." in name:
        raise OptionError("Type the name of a repository on the Hub: owner/name.")
    found = {tag: re.fullmatch(r"epoch-(\d+)", tag) for tag in hub.tags(name, token=False)}
    tags = {tag: int(match[1]) for tag, match in found.items() if match}
    if not tags:
        raise OptionError(f"{name} has no revisions epoch-N.")
    return sorted(tags, key=tags.__getitem__)


def study() -> str:
    """The variants of this machine that were measured on the same photos, in one table."""
    known, asked = hub.local_variants(), None
    results, megabytes = {}, {}
    for name in studio.ours_first(list(known)):
        path = known[name].folder / "results.json"
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if "metrics" not in found:
            continue
        measured = found["dataset"]["name"], found["dataset"]["split"], found["images"]
        asked = asked or measured
        if measured == asked:
            results[name] = found
            megabytes[name] = path.with_name(WEIGHTS).stat().st_size / 1e6
    if not results or asked is None:
        return "No variant on this machine has been measured."
    table = beside_table(results, megabytes)
    return (
        f"{table}\n\nMeans over {asked[2]} photos of `{asked[0]}`, split `{asked[1]}`. Each card "
        "says how its variant was trained; the papers' claims beside what came out are in the "
        "project's docs/study.md."
    )


def _shown(name: str) -> tuple[Any, ...]:
    pictures, table = samples(name), losses(name)
    return (
        card(name),
        gr.LinePlot(table, visible=len(table) > 0),
        gr.Gallery(pictures, visible=bool(pictures)),
    )


def _list(repository: str) -> tuple[Any, ...]:
    try:
        tags = epochs(repository or "")
    except ColorhubError as error:
        return [], gr.Slider(visible=False), note(str(error))
    said = note(f"{len(tags)} epochs, {tags[0]} to {tags[-1]}: move the slider.")
    many = len(tags) > 1
    return tags, gr.Slider(1, max(2, len(tags)), value=len(tags), visible=many), said


def _at(
    upload: dict[str, Any] | None, repository: str, tags: list[str], place: int
) -> tuple[Any, str]:
    """The photo's colours at one epoch."""
    if not tags:
        return gr.skip(), note("List a repository's epochs first.")
    tag = tags[min(int(place), len(tags)) - 1]
    try:
        photo = uploads.received(upload)
        _, outcome = next(studio.compared(photo, [f"{repository.strip()}@{tag}"], 0))
    except ColorhubError as error:
        return gr.skip(), note(str(error))
    if isinstance(outcome, str):
        return gr.skip(), note(outcome)
    picture = studio.painted(photo, outcome, Adjustment(), SCREEN)
    return gr.Image(picture, alt_text=f"Photo colourised at {tag}", visible=True), note(f"{tag}.")


def tab(opened: gr.Tab) -> None:
    """Lay the tab out, where it is called; it is filled when it is opened."""
    private: dict[str, Any] = {"api_visibility": "private"}
    names = studio.ours_first(list(hub.local_variants(None)))
    name = gr.Dropdown(names, value=names[0] if names else None, label="Variant", elem_id="model")
    with gr.Accordion("All variants in one table", open=False):
        gr.Markdown(study(), elem_id="study")
    with gr.Accordion("A network's colours, epoch by epoch", open=False):
        _time_machine(private)
    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            text = gr.Markdown(elem_id="card")
        with gr.Column(scale=2, min_width=280):
            curve = gr.LinePlot(
                x="step", y="value", color="loss", title="Losses in training", x_title="step",
                y_title="loss", height=320, visible=False, elem_id="losses",
            )  # fmt: skip
            pictures = gr.Gallery(
                label="Samples: input, truth, output", columns=1, format="jpeg", visible=False,
                interactive=False, buttons=["fullscreen"], object_fit="contain", height="auto",
                elem_id="samples",
            )  # fmt: skip
    for when in (opened.select, name.change):
        when(_shown, name, [text, curve, pictures], **private)
    opened.select(None, js=REACHED_BY_KEYS, **private)


def _time_machine(private: dict[str, Any]) -> None:
    gr.Markdown(
        "For repositories on the Hub that were published while they trained, with revisions "
        "epoch-1, epoch-2 and so on."
    )
    tags = gr.State([])
    with gr.Row():
        with gr.Column(min_width=280):
            photo = gr.Image(
                label="Photo", sources=["upload", "clipboard"], type="filepath", image_mode=None,
                buttons=[], height=240, alt_text="The photo to colour", elem_id="epoch-photo",
            )  # fmt: skip
            repository = gr.Textbox(label="Repository, owner/name", elem_id="epoch-repository")
            listed = gr.Button("List its epochs", elem_id="epoch-list")
            place = gr.Slider(
                1, 2, value=1, step=1, label="Epoch, in order", visible=False, elem_id="epoch"
            )
            said = gr.HTML(padding=False, elem_id="epoch-note")
        with gr.Column(min_width=280):
            shown = gr.Image(
                visible=False, show_label=False, interactive=False, buttons=["fullscreen"],
                elem_id="epoch-shown",
            )  # fmt: skip
    run: dict[str, Any] = {
        "fn": _at,
        "inputs": [photo, repository, tags, place],
        "outputs": [shown, said],
        "preprocess": False,
        **studio.AT_WORK,
    }
    listing = listed.click(_list, repository, [tags, place, said], **private)
    listing.success(**run, **private)
    place.release(**run, **private)
    place.input(**run, trigger_mode="always_last", show_progress="hidden", **private)
