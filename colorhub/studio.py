"""What the app remembers between clicks: photos, networks, and what these say of them.

Everything is bounded and can be computed again from the photo, which is known by its path: an
upload's path holds the hash of its content.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from colorhub import cards, hub, weights
from colorhub.adjustment import Adjustment
from colorhub.colorizer import Colorizer, join, paint, pick_device
from colorhub.errors import ColorhubError, HubError, OptionError, PhotoError, VariantError
from colorhub.gpu import on_gpu
from colorhub.hub import Variant, list_variants, resolve
from colorhub.jobs import result_name
from colorhub.memory import Kept, network_bytes
from colorhub.photos import save_photo
from colorhub.results import write
from colorhub.samples import contact_sheet
from colorhub.together import Together
from colorhub.uploads import new_file, opened, original_of, reduced

FAINT = 5.0  # mean chroma in Lab units below which a result looks grey
MANY = 24  # variants compared at once
# Visitors served at a time; their networks take turns, or work for several at once.
AT_WORK: dict[str, Any] = {"concurrency_limit": 4, "concurrency_id": "model"}
OTHERS = 4  # other colourings by one variant
UNSURE = 40.0  # Lab units of uncertainty at which the tint is full, for every photo and variant
# Of all orange's neighbours the one that people who do not tell red from green, or blue from
# yellow, see grow most evenly over any grey (tests/test_studio.py measures it).
TINT, OPACITY = (255, 102, 0), 0.75
NO_VARIANTS = (
    "There are no variants on this machine yet: train one, or type the name of one on the Hub, "
    "such as owner/name."
)

_model: Together[Tensor, "Answer"] = Together()  # networks share the device and its memory
_networks: Kept[Colorizer] = Kept()
_results: Kept["Result"] = Kept(50 * 10**6)
_unsure: Kept["Answer"] = Kept(20 * 10**6)


@dataclass(frozen=True)
class Answer:
    """What a network answers."""

    maps: Tensor  # (1, C, h, w) in Lab units, at network size
    seconds: float  # of the network alone, for all photos that it saw at once
    device: str
    trouble: str  # why it is not the device it should be, or nothing


@dataclass(frozen=True)
class Result:
    """What a variant says about a photo, before strength is applied."""

    variant: Variant
    seed: int
    ab: Tensor  # (1, 2, h, w) in Lab units, at network size
    seconds: float  # of the network alone
    device: str
    note: str  # what coloured the photo, for its metadata
    several: bool  # whether other seeds give other colours
    knows_uncertainty: bool
    paper: str = ""  # such as "Fabbri 2017"
    licence: str = ""
    trouble: str = ""  # with the device, or nothing

    @property
    def faint(self) -> bool:
        return float(self.ab.norm(dim=1).mean()) < FAINT

    @property
    def revision(self) -> str:
        return (self.variant.revision or self.variant.source)[:7]

    @property
    def caption(self) -> str:
        parts = [self.variant.name, self.revision, self.paper, self.licence]
        return " · ".join([*filter(None, parts), f"{self.seconds:.2f} s on {self.device}"])


@dataclass(frozen=True)
class Colouring:
    """What names a result, and is enough to compute it again."""

    photo: str
    variant: Variant
    seed: int


@dataclass(frozen=True)
class Shown:
    """What a visitor's page shows: enough to paint it again at another strength."""

    photo: str
    grey: str  # the photo in grey, at screen size
    seed: int  # of the variants compared; colourings by other seeds are others by one of them
    colourings: tuple[Colouring, ...]

    def caption(self, result: Result) -> str:
        other = result.seed != self.seed
        return f"{result.variant.name} · seed {result.seed}" if other else result.caption


def _load(variant: Variant, written: float) -> Colorizer:
    def load() -> Colorizer:
        try:
            return Colorizer(weights.load(variant.folder), variant=variant)
        except VariantError as error:
            raise VariantError(str(error).replace(str(variant.folder), variant.name)) from error

    return _networks.get((variant, written), load, lambda made: network_bytes(made.generator))


def _answer(variant: Variant, written: float, seed: int, photo: str, unsure: bool) -> Answer:
    """What a variant says of a photo; photos of one shape that wait for it, it sees at once."""
    seen = _load(variant, written).seen(opened(photo))
    asked = variant, written, seed, unsure
    return _model.do(
        (*asked, seen.shape), seen, lambda photos: _asked(*asked, torch.cat([*photos]))
    )


@on_gpu
def _asked(
    variant: Variant, written: float, seed: int, unsure: bool, lightness: Tensor
) -> list[Answer]:
    """An answer for each of the photos (N, 1, h, w), and on which device; the CPU never fails."""

    def ask(colorizer: Colorizer) -> list[Answer]:
        device, start = colorizer.device.type, time.perf_counter()
        if unsure:
            maps = colorizer.uncertainty_of(lightness)
        else:
            maps = colorizer(lightness, seed=seed) * colorizer.gain()
        seconds = time.perf_counter() - start
        moved = colorizer.device.type != device
        trouble = f"the {device} was out of memory, so the CPU did it" if moved else ""
        if moved:
            _networks.drop((variant, written))  # the next may try the device again
        answered = seconds, colorizer.device.type, trouble
        return [Answer(each[None], *answered) for each in maps]

    try:
        return ask(_load(variant, written))
    except RuntimeError as error:  # a device that is lost has no error of its own
        if pick_device("auto").type == "cpu":
            raise
        logging.exception("%s failed on its device", variant.name)
        _networks.drop((variant, written))
        on_cpu = Colorizer(weights.load(variant.folder), device="cpu", variant=variant)
        trouble = f"the accelerator failed ({type(error).__name__}), so the CPU did it"
        return [replace(each, trouble=trouble) for each in ask(on_cpu)]


@lru_cache(maxsize=256)
def _credits(variant: Variant, written: float) -> tuple[str, str]:
    """(paper, licence) of a variant, as far as its card says and can be had."""
    card = None
    with suppress(HubError, OSError, UnicodeError):
        card = hub.card(variant, token=False)
    return cards.credits_of(variant.folder, card)


def _written(variant: Variant) -> float:
    """When: training writes a local variant again and again."""
    config = variant.folder / "config.json"
    return config.stat().st_mtime if config.exists() else 0.0


@contextmanager
def _plainly(name: str) -> Iterator[None]:
    """Make of whatever a variant fails with one sentence that visitors may read."""
    try:
        yield
    except ColorhubError:
        raise
    except Exception as error:
        logging.exception("%s failed", name)
        reason = "failed for a reason that only the server's log knows."
        raise VariantError(f"{name} {reason}") from error


def colours(colouring: Colouring) -> Result:
    """What a variant says of a photo: computed once, and kept for a while."""
    variant, seed = colouring.variant, colouring.seed
    written = _written(variant)

    def compute() -> Result:
        answer = _answer(variant, written, seed, colouring.photo, False)
        colorizer = _load(variant, written)
        paper, licence = _credits(variant, written)
        return Result(
            variant, seed, answer.maps, answer.seconds, answer.device, colorizer.note,
            colorizer.has_alternatives, colorizer.knows_uncertainty, paper, licence, answer.trouble,
        )  # fmt: skip

    with _plainly(variant.name):
        return _results.get((colouring, written), compute, lambda made: made.ab.nbytes)


def uncertainty(colouring: Colouring) -> Tensor | None:
    """(1, 1, h, w) in Lab units, at network size; None if the variant does not know it."""
    if not colours(colouring).knows_uncertainty:
        return None
    asked = colouring.variant, _written(colouring.variant), 0, colouring.photo, True
    with _plainly(colouring.variant.name):
        return _unsure.get(asked, lambda: _answer(*asked), lambda made: made.maps.nbytes).maps


def chosen(names: Any) -> list[str]:
    """Variants' names as a visitor or a program sends them, each once, the recommended first.

    Raises OptionError for what is no list, an empty one, or one of too many.
    """
    if not isinstance(names or [], (list, tuple)):
        raise OptionError("Give a list of variants' names.")
    names = list(dict.fromkeys(str(name).strip() for name in names or ()))
    if not names:
        raise OptionError("Choose at least one variant." if list_variants() else NO_VARIANTS)
    if len(names) > MANY:
        raise OptionError(f"These are {len(names)} variants; at most {MANY} are compared at once.")
    return ours_first(names)


def ours_first(names: list[str]) -> list[str]:
    """Names in their order, but the recommended variant before all others."""
    return sorted(names, key=lambda name: name != "natural")


def compared(
    photo: str | None, names: Sequence[str] | None, seed: int
) -> Iterator[tuple[str, Result | str]]:
    """Each name with its result or, if it fails, with one sentence why: the others go on."""
    if not photo:
        raise PhotoError("Choose a photo first.")
    names = chosen(names)
    opened(photo)  # a photo that cannot be read is no variant's fault
    for name in names:
        try:
            with _plainly(name):
                # Strangers type these names: never a folder, never the host's own token.
                variant = resolve(name, folders=False, token=False)
            yield name, colours(Colouring(photo, variant, seed))
        except ColorhubError as error:
            yield name, str(error)


def others(shown: Shown, picked: Colouring) -> Iterator[Shown]:
    """The page as it grows by those other colourings of the picked variant that it has not yet.

    They stand beside the variant's own and take the place of another variant's. Raises OptionError
    if there is only one colouring.
    """
    if not colours(picked).several:
        raise OptionError(f"{picked.variant.name} has only one colouring.")
    mine = [each for each in shown.colourings if each.variant == picked.variant]
    compared = [each for each in shown.colourings if each.seed == shown.seed]
    after = compared.index(mine[0]) + 1
    for seed in range(2 * OTHERS + 1):
        if len(mine) > OTHERS:
            return
        other = replace(picked, seed=seed)
        ab = colours(other).ab
        if any(torch.equal(ab, colours(each).ab) for each in mine):
            continue  # seeds begin again once a variant has shown all that it knows
        mine.append(other)
        names = (*compared[:after], *mine[1:], *compared[after:])
        yield replace(shown, colourings=names)


def painted(photo: str, result: Result, how: Adjustment, longest: int) -> str:
    """The path of a picture for the page, so long at the most."""
    path = _named(photo, result, ".jpg")
    save_photo(paint(reduced(photo, longest), how(result.ab)), path)
    return str(path)


def taken_home(
    photo: str, result: Result, how: Adjustment, *, ending: str = "", note: bool = False,
    seed: bool = False,
) -> tuple[str, tuple[str, ...]]:  # fmt: skip
    """The path of the result at the photo's own size with all that its file holds; warnings.

    In the photo's own format, or that of an ending. With `note` XMP says what coloured it; the
    file's name says the seed if asked to.
    """
    original = original_of(photo)
    ending = ending or result_name(Path(photo)).suffix.lower()
    path = _named(photo, result, f"-seed{result.seed}" * seed + ending)
    levels = join(original.levels, how(result.ab), bits=original.bits)
    warnings = write(path, levels, original, note=result.note if note else None)
    return str(path), original.warnings + warnings


def sheet(shown: Shown, how: Adjustment) -> str:
    """The path of one picture of the photo and all results, with their names."""
    small = reduced(shown.photo, 1024)
    pictures = {"original": small.convert("RGB")}
    for each in map(colours, shown.colourings):
        pictures[shown.caption(each)] = paint(small, how(each.ab))
    path = new_file(f"{Path(shown.photo).stem}-compared.jpg")
    save_photo(contact_sheet(pictures), path)
    return str(path)


def veiled(photo: str, result: Result, unsure: Tensor, longest: int) -> str:
    """The path of the photo in grey, the more tinted the less sure its colours are."""
    grey = paint(reduced(photo, longest), result.ab, strength=0)
    levels = (unsure[0, 0] / UNSURE).clamp(0, 1) * OPACITY * 255
    mask = Image.fromarray(levels.round().to(torch.uint8).numpy())
    mask = mask.resize(grey.size, Image.Resampling.BILINEAR)
    path = _named(photo, result, "-uncertainty.jpg")
    save_photo(Image.composite(Image.new("RGB", grey.size, TINT), grey, mask), path)
    return str(path)


def _named(photo: str, result: Result, ending: str) -> Path:
    slug = result.variant.name.replace("/", "-").replace("@", "-")
    return new_file(f"{Path(photo).stem}-{slug}{ending}")
