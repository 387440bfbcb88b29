"""The app's tab "Blind test": two results without names, a question, a vote, and who leads."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import gradio as gr

from colorhub import booth, votes
from colorhub.booth import Visit
from colorhub.errors import ColorhubError, OptionError
from colorhub.look import example_gallery, note, table
from colorhub.photos import save_photo
from colorhub.samples import bundled_photos
from colorhub.studio import AT_WORK
from colorhub.uploads import received
from colorhub.votes import REAL, Vote

NATURAL, TRUE = "Which looks more natural?", "Which one is the real photo?"
ORDER = ("First", "Second")
COLUMNS = ["variant", "points", "95 %", "votes", "won", "both bad"]
HEAD = """Two results for one photo, without names. You say which is better; then you see whose they
are. Choose a photo, then press Show me two."""
KEPT = """Of a vote is kept: the photo's SHA-256, the two variants and their revisions, your choice
and colorhub's version. Never the photo, and nothing about you."""
OFF = "Votes are not kept here."
BOARD = f"""## Leaderboard
Sorted by the lower end of the 95 % interval; 400 points are odds of ten to one. A result that was
taken for the real photo has won against it. Preliminary: fewer than {votes.PRELIMINARY} votes."""


# What clicks do. What each returns, `_connect` lists in its order.


def _show(pairs: booth.Pairs, visit: Visit, mode: str) -> Iterator[tuple[Any, ...]]:
    """Put the next question."""
    visit, nothing, hidden = replace(visit, question=None), gr.skip(), gr.Row(visible=False)
    yield note("Colouring."), visit, nothing, hidden, hidden, *[nothing] * 6
    try:
        asked = pairs.next(visit, real=mode == TRUE)
        visit = replace(asked, question=None)  # not again, should a variant fail
        asked, pictures = booth.shown(asked)
    except ColorhubError as error:
        yield note(str(error)), visit, hidden, *[nothing] * 8
        return
    images = [
        gr.Image(picture, label=side, alt_text=f"{side} result")
        for side, picture in zip(ORDER, pictures, strict=True)
    ]
    heading = f'<h2 tabindex="-1">{mode}</h2>'
    tie = gr.Button("Tie" if mode == NATURAL else "Cannot tell")
    bad, seen = gr.Button(visible=mode == NATURAL), gr.Row(visible=True)
    yield note(), asked, seen, seen, nothing, heading, *images, tie, bad, ""


def _vote(box: booth.Box | None, choice: str, visit: Visit) -> tuple[Any, ...]:
    """Keep the vote and tell the names."""
    if visit.question is None:  # a second press on the way
        return (gr.skip(),) * 6
    vote = replace(visit.question, choice=choice)
    said = [*_verdict(vote), OFF if box is None else "Your vote is kept."]
    try:
        if box is not None:
            box.add(vote)
    except ColorhubError as error:
        said[-1] = f"Your vote could not be kept. {error}"
    images = [
        gr.Image(label=f"{side}: {_called(name)}", alt_text=_described(name))
        for side, name in zip(ORDER, vote.variants, strict=True)
    ]
    hidden, seen = gr.Row(visible=False), gr.Row(visible=True)
    return replace(visit, question=None), hidden, seen, *images, note(*said)


def _board(box: booth.Box | None) -> str:
    if box is None:
        return note("There is none:", OFF.lower())
    try:
        places = votes.leaderboard(box.all())
    except ColorhubError as error:
        return note(str(error))
    return table(COLUMNS, [_row(place) for place in places]) if places else note("No votes yet.")


def _take(visit: Visit, upload: dict[str, Any] | None) -> tuple[Any, ...]:
    """Look at an upload at once. It is shown in grey: its colours would give answers away."""
    try:
        path = Path(received(upload))
        shown, said = booth.grey(path), f"{path.name} is chosen."
    except ColorhubError as error:
        return None, visit.of(None), note(str(error)), gr.Column(visible=False)
    return shown, visit.of(path), note(said), gr.Column(visible=False)


def _called(name: str) -> str:
    return name if name == REAL else f"by {name}"


def _described(name: str) -> str:
    return "The real photo" if name == REAL else f"Photo colourised by {name}"


def _verdict(vote: Vote) -> list[str]:
    """Whose results they were and, where there was a right answer, whether it was given."""
    said = [f"{side}: {_called(name)}." for side, name in zip(ORDER, vote.variants, strict=True)]
    if REAL in vote.variants and vote.choice in ("first", "second"):
        right = vote.variants[vote.choice == "second"] == REAL
        said.append("You found the real photo." if right else "You took the result for real.")
    return said


def _row(place: votes.Place) -> list[str]:
    name = place.name + ", preliminary" * place.preliminary
    won = f"{place.wins / place.votes:.0%}" if place.votes else ""
    span = f"{place.low:.0f} to {place.high:.0f}"
    return [name, f"{place.points:.0f}", span, str(place.votes), won, str(place.both_bad)]


@lru_cache(maxsize=1)
def _examples() -> tempfile.TemporaryDirectory[str]:
    """A folder of photos with known colours, each beside its grey; it goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="colorhub-blindtest-")
    try:
        for name, photo in bundled_photos().items():
            save_photo(photo, Path(folder.name, f"{name}.png"))
            save_photo(photo.convert("L"), Path(folder.name, f"{name}.grey.jpg"))
    except OptionError:  # without scikit-image there are none, as on the first tab
        pass
    return folder


def tab() -> None:
    """Lay the tab out, inside of the page's `gr.Tab`."""
    box, folder = booth.box(), Path(_examples().name)
    photos = sorted(folder.glob("*.png"))
    gr.Markdown(HEAD)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            part = _choices([str(path.with_suffix(".grey.jpg")) for path in photos])
        with gr.Column(scale=5, min_width=300):
            part |= _question()
            gr.Markdown(BOARD)
            part["board"] = gr.HTML(padding=False, elem_id="blind-board")
            part["again"] = gr.Button("Count again", size="sm", visible=box is not None)
            gr.Markdown(OFF if box is None else KEPT)
    _connect(box, photos, part)


def _choices(greys: list[str]) -> dict[str, Any]:
    part: dict[str, Any] = {}
    part["photo"] = gr.Image(
        *greys[:1], label="Photo, shown in grey", sources=["upload", "clipboard"], type="filepath",
        image_mode=None, buttons=[], height=260, alt_text="The photo in grey",
        elem_id="blind-photo",
    )  # fmt: skip
    part["example"] = example_gallery(greys, elem_id="blind-examples")
    part["mode"] = gr.Radio([NATURAL, TRUE], value=NATURAL, label="Question", elem_id="blind-mode")
    part["go"] = gr.Button("Show me two", variant="primary", elem_id="blind-go")
    part["note"] = gr.HTML(padding=False, elem_id="blind-note")
    return part


def _question() -> dict[str, Any]:
    part: dict[str, Any] = {}
    with gr.Column(visible=False, elem_id="blind-stage") as part["stage"]:
        part["heading"] = gr.HTML(padding=False, elem_id="blind-question")
        with gr.Row():
            for side in ("first", "second"):
                part[side] = gr.Image(
                    interactive=False, buttons=["fullscreen"], min_width=260,
                    elem_id=f"blind-{side}",
                )  # fmt: skip
        with gr.Row(elem_id="blind-answers") as part["answers"]:
            for choice in votes.CHOICES:
                part[f"say {choice}"] = gr.Button(choice.capitalize(), min_width=120)
        part["verdict"] = gr.HTML(padding=False, elem_id="blind-verdict")
        with gr.Row(visible=False) as part["after"]:
            part["next"] = gr.Button("Next pair", variant="primary", elem_id="blind-next")
    return part


def _connect(box: booth.Box | None, photos: list[Path], part: dict[str, Any]) -> None:
    """Which click does what. The outputs stand in the order of what is returned."""
    first, board = Visit().of(photos[0] if photos else None), partial(_board, box)
    visit, said, stage = gr.State(first), part["note"], part["stage"]
    private: dict[str, Any] = {"api_visibility": "private"}
    quiet = {"show_progress": "hidden", **private}
    images = [part["first"], part["second"]]
    show = partial(_show, booth.Pairs())
    gr.on(
        [part["go"].click, part["next"].click], show, [visit, part["mode"]],
        [said, visit, stage, part["answers"], part["after"], part["heading"], *images,
         part["say tie"], part["say both bad"], part["verdict"]],
        show_progress_on=images, **AT_WORK, **private,
    ).then(None, js=_focus("#blind-question h2"), **private)  # fmt: skip
    told = [visit, part["answers"], part["after"], *images, part["verdict"]]
    for choice in votes.CHOICES:
        # One at a time: of two presses in a row the second finds no open question.
        part[f"say {choice}"].click(
            partial(_vote, box, choice), visit, told, concurrency_limit=1, concurrency_id="votes",
            **quiet,
        ).then(None, js=_focus("#blind-next"), **private).then(
            board, None, part["board"], **quiet
        )  # fmt: skip
    part["again"].click(board, None, part["board"], **private)
    gr.on(None, board, None, part["board"], queue=False, **quiet)  # when the page opens

    def example(visit: Visit, event: gr.SelectData) -> tuple[Any, ...]:
        path = photos[event.index]
        shown = str(path.with_suffix(".grey.jpg"))
        return shown, visit.of(path), note(), gr.Column(visible=False)

    taken = [part["photo"], visit, said, stage]
    part["example"].select(example, visit, taken, **private)
    part["photo"].upload(_take, [visit, part["photo"]], taken, preprocess=False, **private)
    part["photo"].clear(lambda visit: visit.of(None), visit, visit, **private)


def _focus(selector: str) -> str:
    """Where the keyboard goes on: the button that was pressed is gone."""
    return f"() => setTimeout(() => document.querySelector('{selector}')?.focus(), 100)"
