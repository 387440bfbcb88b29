"""What a visitor's clicks do in the tab Compare."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from colorhub import studio
from colorhub.adjustment import Adjustment
from colorhub.errors import ColorhubError, OptionError
from colorhub.hub import list_variants
from colorhub.look import legend, note, polite, table
from colorhub.photos import save_photo
from colorhub.studio import (
    Colouring,
    Result,
    Shown,
    colours,
    compared,
    painted,
)
from colorhub.uploads import new_file, opened, received
from colorhub.viewer import BESIDE, LEFT, RIGHT, SLIDER, Compared

SCREEN, THUMB = 1280, 480  # pixels of a picture's long side in the large view and in the strip
COLUMNS = ["name", "revision", "paper", "licence", "seconds", "remark"]
GREY, COLOUR, UNSURE = LEFT, RIGHT, "Uncertainty"
VIEWS = (SLIDER, BESIDE, GREY, COLOUR, UNSURE)
LIMITS = {
    "seed": (0, 2**32 - 1),
    "strength": (0, 2),
    "saturation": (0, 2),
    "warmth": (-1, 1),
    "gain": (0.5, 2),
}
FORMATS = {"As the photo": "", "JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif"}
UNSEEN = (".tif", ".tiff", ".ppm", ".pgm")  # endings of pictures that browsers do not show


def rows(outcomes: dict[str, Result | str]) -> list[list[str]]:
    rows = []
    for name, outcome in outcomes.items():
        if isinstance(outcome, str):
            rows.append([name, "", "", "", "", outcome])
        else:
            remark = "; ".join(filter(None, ["hardly any colour" * outcome.faint, outcome.trouble]))
            credit = outcome.paper, outcome.licence, f"{outcome.seconds:.2f}"
            rows.append([name, outcome.revision, *credit, remark])
    return rows


def take(upload: dict[str, Any] | None) -> tuple[Any, str]:
    """Look at an upload at once: refuse what is no photo, convert what browsers cannot show."""
    try:
        path = Path(received(upload))
        photo = opened(str(path))
    except ColorhubError as error:
        return None, note(str(error))
    said = note(f"{path.name}: {photo.width} x {photo.height} pixels.")
    if path.suffix.lower() not in UNSEEN:
        return gr.skip(), said
    shown = new_file(f"{path.stem}.png")
    save_photo(photo, shown)
    return str(shown), said


@dataclass(frozen=True)
class Opening:
    """What the page shows before anybody has asked for anything."""

    shown: Shown
    large: Compared
    pictures: list[tuple[str, str]]
    table: str

    @property
    def picked(self) -> Colouring:
        return self.shown.colourings[0]


def opening(photo: str, names: list[str]) -> Opening | None:
    """An example, coloured when the app starts; None if no variant can colour it now."""
    outcomes = dict(compared(photo, names, 0)) if names else {}
    results = [each for each in outcomes.values() if isinstance(each, Result)]
    if not results:
        return None
    how, grey = Adjustment(), painted(photo, results[0], Adjustment(0), SCREEN)
    colourings = tuple(Colouring(photo, each.variant, 0) for each in results)
    shown = Shown(photo, grey, 0, colourings)
    large, _ = _large(shown, colourings[0], SLIDER, GREY, how)
    pictures = [(painted(photo, each, how, THUMB), each.caption) for each in results]
    return Opening(shown, large, pictures, table(COLUMNS, rows(outcomes)))


def example(gallery: list[tuple[str, str]], event: gr.SelectData) -> str:
    """The example that was picked."""
    return gallery[event.index][0]


def run(
    upload: dict[str, Any] | None, names: list[str], seed: int, view: str, *look: float
) -> Iterator[tuple[Any, ...]]:
    """Colour the photo, showing each result as it comes; `look` are the sliders of `Adjustment`."""
    seed, nothing = int(seed or 0), gr.skip()
    outcomes: dict[str, Result | str] = {}
    pictures: list[tuple[str, str]] = []
    shown = None
    try:
        photo, how, names = received(upload), Adjustment(*look), studio.chosen(names)
        yield note(_left(names, {})), "", *[nothing] * 8
        for name, outcome in compared(photo, names, seed):
            outcomes[name] = outcome
            first: tuple[Any, ...] = (nothing,) * 5
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
                first = (*first[:4], _sides(shown, **begun))
            strip = gr.Gallery(pictures, visible=bool(pictures), **mark)
            said = note(*_said(outcomes, names))
            yield said, nothing, strip, table(COLUMNS, rows(outcomes)), shown, *first
    except ColorhubError as error:
        yield note(str(error)), *[nothing] * 9


def _left(names: list[str], outcomes: dict[str, Result | str]) -> str:
    """Which variant is at work, and how many come after it; nothing if all are done."""
    left = [name for name in dict.fromkeys(names) if name not in outcomes]
    more = f" {len(left) - 1} more to come." if len(left) > 1 else ""
    return f"Colouring by {left[0]}.{more}" if left else ""


def _said(outcomes: dict[str, Result | str], names: list[str]) -> list[str]:
    """What the visitor reads beside the button: how far it is, and what went wrong."""
    results = [each for each in outcomes.values() if isinstance(each, Result)]
    faint = [each.variant.name for each in results if each.faint]
    said = [each for each in outcomes.values() if isinstance(each, str)]
    said += [f"{each.variant.name}: {each.trouble}." for each in results if each.trouble]
    if faint:
        hint = "try another variant or more strength."
        said.append(f"Hardly any colour from {', '.join(faint)}: {hint}")
    done = "Done. Pick a result to see it large." if results else ""
    return [_left(names, outcomes) or done, *said]


def sides(shown: Shown) -> list[Any]:
    """What a result can be compared with: the grey photo, or another result."""
    return [GREY, *((shown.caption(colours(each)), _key(each)) for each in shown.colourings)]


def _sides(shown: Shown, **chosen: Any) -> Any:
    return gr.Dropdown(sides(shown), **chosen)


def _key(colouring: Colouring) -> str:
    return f"{colouring.variant.name} {colouring.seed}"


def _stage(
    shown: Shown, picked: Colouring, view: str, against: str, how: Adjustment
) -> tuple[Any, ...]:
    """What `_large` shows, whose it is, and what is said of it, for the page."""
    large, said = _large(shown, picked, view, against, how)
    caption = shown.caption(colours(picked))
    return large.value, gr.Radio(label=caption), gr.HTML(said, visible=bool(said))


def _large(
    shown: Shown, picked: Colouring, view: str, against: str, how: Adjustment
) -> tuple[Compared, str]:
    """The picked result, large, beside another or the grey photo; and a legend for it."""
    result = colours(picked)
    name, said = result.variant.name, ""
    left, left_name = shown.grey, "The photo in grey"
    right, right_name = painted(shown.photo, result, how, SCREEN), _described(result)
    for each in shown.colourings:
        if view != GREY and _key(each) == against:
            other = colours(each)
            left, left_name = painted(shown.photo, other, how, SCREEN), _described(other)
    unsure = studio.uncertainty(picked) if view == UNSURE else None
    if unsure is not None:
        right = studio.veiled(shown.photo, result, unsure, SCREEN)
        right_name = f"The photo in grey, tinted orange where {name} is unsure of its colours"
        said = legend(studio.TINT, studio.OPACITY, studio.UNSURE, float(unsure.mean()))
    elif view == UNSURE:
        said = note(f"{name} does not say how sure it is: this is its coloured photo.")
    seen = COLOUR if view == UNSURE else view
    return Compared(left, right, left_name, right_name, seen), said


def _described(result: Result) -> str:
    return f"Photo colourised by {result.variant.name}"


@polite
def show(
    shown: Shown | None, picked: Colouring | None, view: str, against: str, *look: float
) -> tuple[Any, ...]:
    """Paint the large view again. The network is asked only how sure it is, and only once."""
    if not (shown and picked):
        return (gr.skip(),) * 3
    return _stage(shown, picked, view, against, Adjustment(*look))


@polite
def strip(shown: Shown | None, *look: float) -> Any:
    """Paint the small pictures again."""
    if shown is None:
        return gr.skip()
    results, how = map(colours, shown.colourings), Adjustment(*look)
    return [(painted(shown.photo, each, how, THUMB), shown.caption(each)) for each in results]


def others(
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
            gallery = gr.Gallery(strip(grown, *look), **mark)
            left = studio.OTHERS - sum(each.seed != shown.seed for each in grown.colourings)
            yield note(f"{left} still to come."), gallery, grown, _sides(grown)
        yield note(f"Other colourings by {picked.variant.name}: pick one."), *[nothing] * 3
    except ColorhubError as error:
        yield note(str(error)), *[nothing] * 3


@polite
def download(
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


@polite
def sheet(shown: Shown | None, *look: float) -> str:
    """The photo and all results as one picture."""
    if shown is None:
        raise OptionError("There is nothing to download yet: colour a photo first.")
    return studio.sheet(shown, Adjustment(*look))


def restore(request: gr.Request, *, always: bool) -> list[Any]:
    """What a link says: variants, seed and sliders; what it does not, or says wrongly, stays.

    The first is whether it says anything, so that there is something to colour, as there is
    `always` where the page did not open with an example coloured.
    """
    asked = dict(request.query_params) if request else {}
    names = [name for name in asked.get("variants", "").split(",") if name.strip()]
    found: list[Any] = [always or bool(asked), names[: studio.MANY] if names else gr.skip()]
    for word, (least, most) in LIMITS.items():
        try:
            number = float(asked[word])
        except (KeyError, ValueError):
            number = float("nan")
        found.append(number if least <= number <= most else gr.skip())
    return found


def list_hub() -> tuple[Any, str]:
    here = studio.ours_first(list_variants())
    try:
        names = studio.ours_first(list_variants(hub=True, token=False))
    except ColorhubError as error:
        return gr.Dropdown(choices=here), note(str(error), "Variants on this machine still work.")
    said = f"The Hub has {len(names) - len(here)} more: they are in the list now."
    return gr.Dropdown(choices=names), note(said)
