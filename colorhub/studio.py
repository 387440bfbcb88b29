"""What the app remembers between clicks: photos, networks, and what these say of them.

Everything is bounded and can be computed again from the photo, which is known by its path: an
upload's path holds the hash of its content.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gradio.utils import get_upload_folder
from PIL import Image
from torch import Tensor

from colorhub.colorizer import Colorizer, paint
from colorhub.errors import ColorhubError, OptionError, PhotoError, VariantError
from colorhub.hub import Variant, list_variants, resolve
from colorhub.photos import open_photo, save_photo

FAINT = 5.0  # mean chroma in Lab units below which a result looks grey
MANY = 24  # variants compared at once
NO_VARIANTS = (
    "There are no variants on this machine yet: train one, or type the name of one on the Hub, "
    "such as owner/name."
)

_model = threading.Lock()  # one network at a time: they share the device and its memory


@dataclass(frozen=True)
class Result:
    """What a variant says about a photo, before strength is applied."""

    variant: Variant
    ab: Tensor  # (1, 2, h, w) in Lab units, at network size
    seconds: float  # of the network alone
    device: str

    @property
    def faint(self) -> bool:
        return float(self.ab.norm(dim=1).mean()) < FAINT

    @property
    def revision(self) -> str:
        return (self.variant.revision or self.variant.source)[:7]

    @property
    def caption(self) -> str:
        return f"{self.variant.name} · {self.revision} · {self.seconds:.2f} s on {self.device}"


@dataclass(frozen=True)
class Shown:
    """What a visitor's page shows: enough to paint it again at another strength."""

    photo: str
    grey: str  # the photo in grey, at screen size
    seed: int
    variants: tuple[Variant, ...]


@lru_cache(maxsize=1)
def opened(photo: str) -> Image.Image:
    name = Path(photo).name
    if not Path(photo).is_file():
        raise PhotoError(f"{name} is no longer kept here: choose it again.")
    try:
        return open_photo(photo)
    except PhotoError as error:  # visitors need not know where their upload is kept
        raise PhotoError(str(error).replace(photo, name)) from error


@lru_cache(maxsize=64)
def _reduced(photo: str, longest: int) -> Image.Image:
    small = opened(photo).copy()
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return small


@lru_cache(maxsize=8)
def _load(variant: Variant, written: float) -> Colorizer:
    try:
        return Colorizer.from_pretrained(variant.folder)
    except VariantError as error:
        raise VariantError(str(error).replace(str(variant.folder), variant.name)) from error


@lru_cache(maxsize=128)
def _result(photo: str, variant: Variant, written: float, seed: int) -> Result:
    picture = opened(photo)
    with _model:
        colorizer = _load(variant, written)
        start = time.perf_counter()
        ab = colorizer.predict(picture, seed=seed)
        return Result(variant, ab, time.perf_counter() - start, colorizer.device.type)


def colours(photo: str, variant: Variant, seed: int) -> Result:
    config = variant.folder / "config.json"  # training writes a local variant again and again
    return _result(photo, variant, config.stat().st_mtime if config.exists() else 0.0, seed)


def compared(
    photo: str | None, names: Sequence[str] | None, seed: int
) -> Iterator[tuple[str, Result | str]]:
    """Each name with its result or, if it fails, with one sentence why: the others go on."""
    if not photo:
        raise PhotoError("Choose a photo first.")
    names = list(dict.fromkeys(names or ()))
    if not names:
        raise OptionError("Choose at least one variant." if list_variants() else NO_VARIANTS)
    if len(names) > MANY:
        raise OptionError(f"These are {len(names)} variants; at most {MANY} are compared at once.")
    opened(photo)  # a photo that cannot be read is no variant's fault
    for name in names:
        try:
            # Strangers type these names: never a folder, never the host's own token.
            yield name, colours(photo, resolve(name.strip(), folders=False, token=False), seed)
        except ColorhubError as error:
            yield name, str(error)
        except Exception:
            logging.exception("%s failed", name)
            yield name, f"{name} failed for a reason that only the server's log knows."


def painted(photo: str, result: Result, strength: float, longest: int | None = None) -> str:
    """The path of a picture for the page or, without `longest`, of one at the photo's own size."""
    source = _reduced(photo, longest) if longest else opened(photo)
    jpeg = longest or Path(photo).suffix.lower() in (".jpg", ".jpeg")
    slug = result.variant.name.replace("/", "-").replace("@", "-")
    path = new_file(f"{Path(photo).stem}-{slug}{'.jpg' if jpeg else '.png'}")
    save_photo(paint(source, result.ab, strength=strength), path)
    return str(path)


def new_file(name: str) -> Path:
    """A path among the uploads: what lies there is served to who knows its name, and ages."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder), name)
