"""What a variant must be that a visitor of the app has named: less is trusted than on one's own.

Whoever types a name decides what a server fetches, keeps and computes, so each of these is bounded
before it happens, and the reason for a refusal is one sentence that the visitor may read.
"""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

from colorhub.errors import NotFoundError, OptionError, VariantError
from colorhub.weights import CONFIG, WEIGHTS

LIBRARY = "colorhub"
MAX_WEIGHTS = 512 * 10**6  # bytes of model.safetensors
MAX_CONFIG = 64 * 10**3  # bytes of config.json
MAX_NAME = 200  # characters
ROOM = 2 * 10**9  # bytes that must be left on the disk afterwards: uploads live there, too
PATIENCE = 120.0  # seconds for all of it: while one variant is fetched, other visitors wait

# Of the network's settings. The weights bound what a network holds; these bound what it computes
# with, and how long building it takes before the weights are looked at. 512 pixels are more than
# any paper's, and take some gigabytes in the largest networks that the weights' limit lets through.
LIMITS = {"resolution": 512, "extractor_size": 512, "width": 512, "depth": 12}
OTHERS = 1024  # any other number

_REVISION = re.compile(r"\w[\w.+/-]*", re.ASCII)


def check_name(name: str, revision: str | None) -> None:
    """Refuse what may be a Hub's revision but is no tag, branch or commit of the owner's own.

    `refs/pr/1` is what anybody proposes under somebody else's name. Raises NotFoundError.
    """
    if len(name) > MAX_NAME:
        raise NotFoundError(
            f"There is no variant {name[:40]!r}...: a name has at most {MAX_NAME} characters."
        )
    if revision is None:
        return
    odd = not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision
    if odd or revision.startswith("refs/") or revision.endswith("/"):
        raise NotFoundError(
            f"There is no revision {revision!r}: give a tag, a branch or a commit, as in "
            "owner/name@revision."
        )


def check_repository(name: str, info: Any) -> None:
    """Refuse a repository by what the Hub says of it, before anything is fetched.

    Raises NotFoundError if it is gated: the host's own right to it is not the visitor's.
    VariantError if it does not say that it is colorhub's, or its files are too large.
    """
    if info.gated:
        raise NotFoundError(f"{name} is gated: only public variants can be named here.")
    library = info.library_name or (info.card_data or {}).get("library_name")
    if library != LIBRARY:
        raise VariantError(
            f"{name} is no colorhub variant: its card does not say `library_name: {LIBRARY}`, "
            "as all do that colorhub has published."
        )
    sizes = {file.rfilename: file.size for file in info.siblings or []}
    for file, limit in ((CONFIG, MAX_CONFIG), (WEIGHTS, MAX_WEIGHTS)):
        _check_size(name, file, sizes.get(file), limit)


def check_room(name: str, size: int, cache: Path) -> None:
    """Refuse what would fill the disk. Raises OptionError."""
    while not cache.exists():
        cache = cache.parent
    if shutil.disk_usage(cache).free - size < ROOM:
        raise OptionError(
            f"There is no room left here to fetch {name}: choose a variant of this machine."
        )


def check_folder(name: str, folder: Path) -> None:
    """Refuse a fetched variant that would take too much time or memory. Raises VariantError.

    Only what is too large is looked for; whether it is right is loading's to say.
    """
    for file, limit in ((CONFIG, MAX_CONFIG), (WEIGHTS, MAX_WEIGHTS)):
        _check_size(name, file, (folder / file).stat().st_size, limit)
    try:
        network = json.loads((folder / CONFIG).read_bytes())["network"]
        settings = dict(network)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise VariantError(f"{name}: its {CONFIG} is none that colorhub has written.") from None
    for setting, value in settings.items():
        limit = LIMITS.get(setting, OTHERS)
        if isinstance(value, (int, float)) and not abs(value) <= limit:  # NaN is not, either
            told = value if isinstance(value, float) or abs(value) < 10**9 else "too much"
            raise VariantError(
                f"{name}: its {setting[:40]} is {told}; {limit} is the limit for variants named "
                "here. On your own machine colorhub has no such limit."
            )


def _check_size(name: str, file: str, size: int | None, limit: int) -> None:
    if size is None:
        raise VariantError(f"{name}: the Hub does not say how large its {file} is.")
    if size > limit:
        unit, word = (10**6, "MB") if limit >= 10**6 else (10**3, "kB")
        has, most = f"{math.ceil(size / unit)} {word}", f"{limit // unit} {word}"
        raise VariantError(
            f"{name}: its {file} has {has}; {most} is the limit for variants named here. "
            "On your own machine colorhub takes larger ones."
        )
