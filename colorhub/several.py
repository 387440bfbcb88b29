"""The app's tab for several photos: one variant, results in a zip, bad photos named."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from colorhub import studio
from colorhub.adjustment import Adjustment
from colorhub.errors import ColorhubError, OptionError
from colorhub.hub import list_variants
from colorhub.look import note, table
from colorhub.uploads import new_file, received

MOST = 40  # photos at a time
COLUMNS = ("photo", "result", "remark")
WHAT_FAILED = "not-coloured.txt"  # in the zip


def coloured(
    photos: list[str] | None, variant: str, strength: float, noted: bool
) -> Iterator[tuple[list[list[str]], str | None]]:
    """Colour photos one after the other: a row for each so far, and the zip's path at the end.

    A photo that fails is named in the rows and in a text in the zip. Raises OptionError if there
    is nothing to do, too much, or nothing came of any.
    """
    photos = list(photos or ())
    if not photos:
        raise OptionError("Choose photos first.")
    if len(photos) > MOST:
        raise OptionError(
            f"These are {len(photos)} photos; at most {MOST} are coloured at once here. For more "
            "run colorhub colorize on your own machine."
        )
    how, rows, results = Adjustment(strength), list[list[str]](), list[str]()
    for photo in photos:
        name = Path(photo).name
        try:
            _, outcome = next(studio.compared(photo, [variant] if variant else [], 0))
            if isinstance(outcome, str):
                raise OptionError(outcome)
            path, warnings = studio.taken_home(photo, outcome, how, note=noted)
            results.append(path)
            rows.append([name, Path(path).name, "; ".join(warnings)])
        except ColorhubError as error:
            rows.append([name, "", str(error)])
        yield rows, None
    if not results:
        raise OptionError("None of these could be coloured: " + rows[0][2])
    yield rows, _zipped(results, [row for row in rows if not row[1]])


def _zipped(results: list[str], failed: list[list[str]]) -> str:
    """The path of a zip of files, by their names; two of one name are numbered."""
    path = new_file("colorhub.zip")
    taken: set[str] = set()
    with zipfile.ZipFile(path, "w") as archive:  # photos do not get smaller
        for result in map(Path, results):
            name, number = result.name, 1
            while name.lower() in taken:
                number += 1
                name = f"{result.stem}-{number}{result.suffix}"
            taken.add(name.lower())
            archive.write(result, name)
        if failed:
            archive.writestr(WHAT_FAILED, "".join(f"{row[0]}: {row[2]}\n" for row in failed))
    return str(path)


def _run(
    uploads: list[dict[str, Any]] | None, variant: str, strength: float, noted: bool
) -> Iterator[tuple[Any, ...]]:
    try:
        photos = [received(upload) for upload in uploads or ()]
        for rows, path in coloured(photos, variant, strength, noted):
            left = len(photos) - len(rows)
            failed = sum(not row[1] for row in rows)
            done = f"Done; {failed} failed." if failed else "Done."
            said = note(done if path else f"{left} still to come.")
            yield said, table(COLUMNS, rows), gr.File(path, visible=path is not None)
    except ColorhubError as error:
        yield note(str(error)), gr.skip(), gr.File(visible=False)


def tab() -> None:
    """Lay the tab out, where it is called."""
    private: dict[str, Any] = {"api_visibility": "private"}
    names = sorted(list_variants(), key=lambda name: name != "natural")
    gr.Markdown(f"Up to {MOST} photos; each comes back in its own size and format.")
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            photos = gr.File(
                label="Photos", file_count="multiple", type="filepath", elem_id="photos"
            )
            variant = gr.Dropdown(
                names, value=names[0] if names else None, allow_custom_value=True,
                label="Variant", elem_id="several-variant",
            )  # fmt: skip
            strength = gr.Slider(0, 2, 1.0, step=0.05, label="Strength of the colours")
            noted = gr.Checkbox(label="Write into each file which variant coloured it")
            with gr.Row():
                go = gr.Button("Colour them", variant="primary", elem_id="several-go")
                stop = gr.Button("Stop", elem_id="several-stop")
        with gr.Column(scale=3, min_width=280):
            said = gr.HTML(padding=False, elem_id="several-note")
            done = gr.File(label="All results", visible=False, elem_id="several-zip")
            rows = gr.HTML(padding=False, elem_id="several-table")
    running = go.click(
        _run, [photos, variant, strength, noted], [said, rows, done],
        preprocess=False, **studio.AT_WORK, **private,
    )  # fmt: skip
    stop.click(lambda: note("Stopped."), None, said, cancels=running, **private)
