"""The blind test without its page: which pair comes next, its pictures, and where votes go."""

import logging
import os
import random
import tempfile
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from PIL import Image

from colorhub import __version__, votes
from colorhub.color import rgb_to_lab
from colorhub.colorizer import paint, to_tensor
from colorhub.errors import DataError, HubError, OptionError, PhotoError
from colorhub.files import sha256
from colorhub.hub import list_variants
from colorhub.photos import save_photo
from colorhub.studio import NO_VARIANTS, Result, compared
from colorhub.uploads import new_file, opened
from colorhub.votes import REAL, Vote
from colorhub.weights import WEIGHTS

SCREEN = 960  # pixels of a picture's long side
TONED = 6.0  # Lab units by which colours vary at most in photos that are grey, or toned evenly
PATIENCE = 60.0  # seconds until a Hub that failed is asked again
UNREACHED = "The data set of votes cannot be reached just now."


@dataclass(frozen=True)
class Visit:
    """What the server remembers of one visitor's page. The page is not told."""

    photo: str = ""
    digest: str = ""
    """SHA-256 of the photo's file."""
    asked: frozenset[tuple[str, frozenset[str]]] = frozenset()
    """Digests and pairs."""
    question: Vote | None = None
    """The open one: a vote that lacks its choice."""

    def of(self, photo: Path | None) -> "Visit":
        """The same visit with another photo, or none."""
        path, digest = (str(photo), sha256(photo)) if photo else ("", "")
        return replace(self, photo=path, digest=digest, question=None)


class Pairs:
    """Which pair of variants comes next, evenly over all visitors."""

    def __init__(self) -> None:
        self._lock, self._shown = threading.Lock(), Counter[frozenset[str]]()

    def next(self, visit: Visit, *, real: bool) -> Visit:
        """The visit with a pair that is new to it, of those shown least; the sides are random.

        With `real` one side is the photo itself. Raises PhotoError or OptionError if there is none.
        """
        if not visit.photo:
            raise PhotoError("Choose a photo first.")
        if real and not _colourful(opened(visit.photo)):
            raise PhotoError("This photo has hardly any colours of its own: choose another photo.")
        names = list_variants()
        every = [(REAL, name) for name in names] if real else list(combinations(names, 2))
        if not every:
            alone = f"This takes two variants, and {names[0]} is alone here." if names else ""
            raise OptionError(alone or NO_VARIANTS)
        pairs = [frozenset(pair) for pair in every]
        pairs = [pair for pair in pairs if (visit.digest, pair) not in visit.asked]
        if not pairs:
            raise OptionError("You have seen every pair on this photo: choose another photo.")
        with self._lock:
            least = min(self._shown[pair] for pair in pairs)
            pair = random.choice([pair for pair in pairs if self._shown[pair] == least])
            self._shown[pair] += 1
        first, second = random.sample(sorted(pair), 2)
        question = Vote(visit.digest, (first, second), ("", ""), "", __version__)
        return replace(visit, asked=visit.asked | {(visit.digest, pair)}, question=question)


def shown(visit: Visit) -> tuple[Visit, list[str]]:
    """The visit, its question with revisions, and the paths of the two pictures.

    Raises OptionError with the reason of a variant that fails.
    """
    assert visit.question is not None
    sides = [_side(visit.photo, name) for name in visit.question.variants]
    revisions = (sides[0][1], sides[1][1])
    question = replace(visit.question, revisions=revisions)
    return replace(visit, question=question), [path for path, _ in sides]


def _side(photo: str, name: str) -> tuple[str, str]:
    """A picture and the variant's revision: the commit or, without one, its weights' SHA-256.

    Both sides are made alike of the same pixels, and no file's name says which is which.
    """
    small, revision = _reduced(opened(photo), SCREEN), ""
    if name != REAL:
        _, outcome = next(compared(photo, [name], 0))
        if not isinstance(outcome, Result):
            raise OptionError(outcome)
        small = paint(small, outcome.ab)
        revision = outcome.variant.revision or sha256(outcome.variant.folder / WEIGHTS)
    return _saved(small), revision


def grey(photo: Path) -> str:
    """The path of a photo in grey at screen size. Raises PhotoError if it is none."""
    return _saved(_reduced(opened(str(photo)), SCREEN).convert("L"))


def _saved(picture: Image.Image) -> str:
    path = new_file("picture.jpg")
    save_photo(picture, path)
    return str(path)


def _reduced(photo: Image.Image, longest: int) -> Image.Image:
    small = photo.convert("RGB")
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return small


def _colourful(photo: Image.Image) -> bool:
    ab = rgb_to_lab(to_tensor(_reduced(photo, 320)))[:, 1:]
    return float(ab.std(dim=(2, 3)).norm()) > TONED


class Box:
    """Where votes are kept: a local file, or a folder that goes to a data set on the Hub."""

    def __init__(self, path: Path | None = None, dataset: str | None = None) -> None:
        self._dataset, self._lock = dataset, threading.Lock()
        self._scheduler: Any = None
        self._failed = -PATIENCE
        self._earlier: list[Path] = []  # what the data set held before this process
        # A file of its own for each process: an upload replaces the file of its name.
        name = f"votes-{uuid.uuid4()}.jsonl"
        self._path = path or Path(tempfile.mkdtemp(prefix="colorhub-votes-"), name)

    def add(self, vote: Vote) -> None:
        """Keep a vote. Raises DataError or HubError, a sentence for who votes, if it cannot be."""
        try:
            with self._uploads().lock if self._dataset else self._lock:
                votes.append(self._path, vote)
        except OSError as error:
            logging.warning("A vote is lost: %s", error)
            raise DataError("The file of votes cannot be written.") from error

    def all(self) -> list[Vote]:
        """All votes so far. Raises DataError or HubError if they cannot be read."""
        if self._dataset:
            self._uploads()
        places = [place for place in (*self._earlier, self._path) if place.exists()]
        try:
            return votes.read_any(places)[0]
        except OSError as error:
            logging.warning("Votes cannot be read: %s", error)
            raise DataError("The file of votes cannot be read.") from error

    def _uploads(self) -> Any:
        """What uploads the folder every few minutes: begun when first needed, for it needs the Hub.

        Until an upload votes are on this machine alone.
        """
        from huggingface_hub import CommitScheduler, create_repo, snapshot_download

        place: dict[str, Any] = {"repo_id": self._dataset, "repo_type": "dataset"}
        only: dict[str, Any] = {"allow_patterns": "*.jsonl"}
        with self._lock:
            if self._scheduler is not None:
                return self._scheduler
            if time.monotonic() < self._failed + PATIENCE:
                raise HubError(UNREACHED)
            try:
                create_repo(**place, private=True, exist_ok=True)
                # Before the first upload, or votes of this process would count twice.
                self._earlier = [Path(snapshot_download(**place, **only))]
                folder = self._path.parent
                self._scheduler = CommitScheduler(folder_path=folder, **place, **only)
            except Exception as error:
                self._failed = time.monotonic()
                logging.warning("Votes cannot go to %s: %s", self._dataset, error)
                raise HubError(UNREACHED) from error
            return self._scheduler


def box() -> Box | None:
    """Where COLORHUB_VOTES (a file) or COLORHUB_VOTES_DATASET (owner/name) say; None if neither."""
    if dataset := os.environ.get("COLORHUB_VOTES_DATASET"):
        return Box(dataset=dataset)
    path = os.environ.get("COLORHUB_VOTES")
    return Box(Path(path)) if path else None
