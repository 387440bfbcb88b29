"""The app's tab for films: a short clip in, the clip in colour out, within limits told before."""

import importlib.util
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from colorhub.album import Outcome
from colorhub.errors import ColorhubError, FilmError, OptionError
from colorhub.filming import Filming, Settings, Step, load
from colorhub.films import open_film
from colorhub.hub import list_variants, resolve
from colorhub.journal import Job
from colorhub.look import note
from colorhub.parts import folder_of_parts
from colorhub.studio import ours_first
from colorhub.uploads import new_file, received

SECONDS, FRAMES, MEGABYTES, MEGAPIXELS = 20, 600, 50, 2.1
LIMITS = (
    f"Up to {SECONDS} seconds, {FRAMES} frames, {MEGABYTES} MB and {MEGAPIXELS} megapixels a frame "
    "(1920 x 1080). For longer films run colorhub colorize on your own machine."
)
EVERY = 0.5  # seconds between two words on how far it is


def check(film: str) -> None:
    """Raise FilmError for a film that is beyond the limits, or cannot be read."""
    name, megabytes = Path(film).name, Path(film).stat().st_size / 1e6
    if megabytes > MEGABYTES:
        raise FilmError(f"{name} has {megabytes:.0f} MB. {LIMITS}")
    found = open_film(film)
    if found.seconds > SECONDS + 0.5:
        raise FilmError(f"{name} takes {found.seconds:.0f} seconds. {LIMITS}")
    if found.frames > FRAMES:
        raise FilmError(f"{name} has {found.frames} frames. {LIMITS}")
    if (megapixels := found.width * found.height / 1e6) > MEGAPIXELS:
        raise FilmError(f"{name} has {megapixels:.1f} megapixels a frame. {LIMITS}")


def coloured(film: str, variant: str, smooth: bool) -> Iterator[Step | Outcome]:
    """Colour an upload: a Step after each frame, and at last what became of it.

    Closed before its end it leaves nothing. Raises ColorhubError where it is refused.
    """
    if not film:
        raise OptionError("Choose a film first.")
    if not variant:
        raise OptionError("Choose a variant.")
    check(film)
    # Strangers type these names, as in `studio.compared`.
    found = resolve(variant.strip(), folders=False, token=False)
    # ZeroGPU's card is there for seconds only, too short for a film.
    colorizer = load(found, "cpu" if importlib.util.find_spec("spaces") else "auto")
    slug = found.name.replace("/", "-").replace("@", "-")
    output = new_file(f"{Path(film).stem}-{slug}.mp4")
    work = Filming(colorizer, Settings(smooth=smooth, note=True))
    try:
        with closing(work.color(Job(Path(film), output))) as events:
            for event in events:
                if isinstance(event, Step) and event.done > FRAMES:  # its header was wrong
                    raise FilmError(f"{Path(film).name} has more than {FRAMES} frames. {LIMITS}")
                yield event
    finally:
        shutil.rmtree(folder_of_parts(output), ignore_errors=True)


def _run(upload: dict[str, Any] | None, variant: str, smooth: bool) -> Iterator[tuple[Any, ...]]:
    path, start, told = "", time.monotonic(), 0.0
    yield note("Looking at the film."), gr.skip()
    try:
        path = received(upload)
        for event in coloured(path, variant, smooth):
            now = time.monotonic()
            if isinstance(event, Step):
                if now - told > EVERY:
                    told = now
                    left = (event.total - event.done) * (now - start) / event.done
                    words = (
                        f"{event.done} of about {event.total} frames, {max(left, 0):.0f} s left."
                    )
                    yield note(words), gr.skip()
            elif event.error:
                raise FilmError(event.error)
            else:
                warnings = (f"{each[0].upper()}{each[1:]}." for each in event.warnings)
                said = note(f"Done in {now - start:.0f} s.", *warnings)
                yield said, gr.Video(str(event.job.output), visible=True)
    except ColorhubError as error:  # visitors need not know where their upload is kept
        said = str(error)
        if path:
            said = said.replace(f"{path}: ", "").replace(path, Path(path).name)
        yield note(said), gr.skip()


def tab() -> None:
    """Lay the tab out, where it is called."""
    private: dict[str, Any] = {"api_visibility": "private"}
    names = ours_first(list_variants())
    names += list_variants(kind="video")
    gr.Markdown(LIMITS)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            film = gr.Video(label="Film", sources=["upload"], elem_id="film", buttons=[])
            variant = gr.Dropdown(
                names, value=names[0] if names else None, allow_custom_value=True,
                label="Variant", elem_id="film-variant",
            )  # fmt: skip
            smooth = gr.Checkbox(True, label="Steady the colours along what moves")
            with gr.Row():
                go = gr.Button("Colour the film", variant="primary", elem_id="film-go")
                stop = gr.Button("Stop", elem_id="film-stop")
        with gr.Column(scale=3, min_width=280):
            said = gr.HTML(padding=False, elem_id="film-note")
            done = gr.Video(
                label="In colour", visible=False, interactive=False, elem_id="film-result"
            )
    running = go.click(
        _run, [film, variant, smooth], [said, done],
        preprocess=False, concurrency_limit=1, concurrency_id="film", **private,
    )  # fmt: skip
    stop.click(lambda: note("Stopped."), None, said, cancels=running, **private)
