"""Votes on which of two results looks more natural, and who leads by them.

A vote is a line of JSON. Strengths are those of Bradley & Terry 1952, "Rank Analysis of Incomplete
Block Designs": the odds of one against the other are the quotient of their strengths. A tie is half
a win for each; "both bad" says nothing of who is better and is only counted.
"""

import errno
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from colorhub.errors import DataError, naming

CHOICES = ("first", "second", "tie", "both bad")
SHARES = {"first": 1.0, "second": 0.0, "tie": 0.5}
"""Of the win, the first's; "both bad" says nothing of who is better."""
REAL = "the real photo"
"""What stands in the place of a variant where a result was shown beside the true colours."""
PRELIMINARY = 50
"""Votes below which a place says little."""
ROUNDS = 1000  # of the iteration, at most
SCALE = 400 / math.log(10)
_PRIOR = 0.5  # ties with one of average strength, so that who won all is not infinitely strong


@dataclass(frozen=True)
class Vote:
    """What somebody chose of two results, without the photo."""

    photo: str
    """SHA-256 of the photo's file."""
    variants: tuple[str, str]
    """In the order in which they were shown; one may be `REAL`."""
    revisions: tuple[str, str]
    choice: str
    """One of `CHOICES`."""
    version: str
    """colorhub's."""

    @property
    def names(self) -> tuple[str, str]:
        """Each variant with its revision: another revision is another competitor."""
        first, second = (
            name if name == REAL or not revision else f"{name.split('@')[0]}@{revision[:7]}"
            for name, revision in zip(self.variants, self.revisions, strict=True)
        )
        return first, second


@dataclass(frozen=True)
class Place:
    """A competitor's place: strength in points, of which 400 are odds of ten to one."""

    name: str
    points: float
    low: float
    high: float
    """The middle 95 % of what votes drawn anew from these strengths give."""
    votes: int
    wins: float
    """With ties as half a win."""
    both_bad: int

    @property
    def preliminary(self) -> bool:
        """Whether there are too few votes to say much."""
        return self.votes < PRELIMINARY


def append(path: str | os.PathLike[str], vote: Vote) -> None:
    """Add a vote to the end of a file, in one write: what is there stays as it is.

    Raises OSError if it cannot be written whole.
    """
    line = json.dumps(asdict(vote)).encode() + b"\n"
    with naming(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(file).st_size
            os.lseek(file, max(0, size - 1), os.SEEK_SET)
            if size and os.read(file, 1) != b"\n":
                line = b"\n" + line  # what a killed process left there stays a line of its own
            if os.write(file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)


def read(places: Iterable[str | os.PathLike[str]]) -> tuple[list[Vote], list[str]]:
    """Votes of files, and of all *.jsonl files in folders; and a word on each line that is none.

    Raises DataError if there is no such place, or no vote in any.
    """
    paths = [Path(place) for place in places]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: there is no such file or folder.")
    votes, complaints = read_any(paths)
    if not votes:
        raise DataError("There are no votes there: each is a line of JSON in a file *.jsonl.")
    return votes, complaints


def read_any(places: Iterable[Path]) -> tuple[list[Vote], list[str]]:
    """As `read` does, where there may be none yet."""
    votes: list[Vote] = []
    complaints: list[str] = []
    for place in places:
        for path in sorted(place.rglob("*.jsonl")) if place.is_dir() else [place]:
            # Not splitlines, which breaks lines at more than their ends.
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    votes.append(_parsed(line))
                except (ValueError, TypeError, KeyError):
                    complaints.append(f"{path}, line {number} is no vote and is passed over.")
    return votes, complaints


def _parsed(line: str) -> Vote:
    facts = json.loads(line)
    pairs = [tuple(map(str, facts[key])) for key in ("variants", "revisions")]
    if any(len(pair) != 2 for pair in pairs) or facts["choice"] not in CHOICES:
        raise ValueError(line)
    (variants, revisions) = ((first, second) for first, second in pairs)
    return Vote(
        str(facts["photo"]), variants, revisions, facts["choice"], str(facts.get("version"))
    )


def leaderboard(votes: Sequence[Vote], *, resamples: int = 1000, seed: int = 0) -> list[Place]:
    """Who leads, sorted by the lower bound: one with few votes must not lead by luck."""
    counts = Counter((*vote.names, vote.choice) for vote in votes)  # thousands are few kinds
    names = sorted({name for *pair, _ in counts for name in pair})
    if not names:
        return []
    wins = _matrix(counts, names)
    points = _points(wins)
    lows, highs = np.percentile(_resampled(wins, points, resamples, seed), (2.5, 97.5), axis=0)
    met, gained, bad = (dict.fromkeys(names, 0.0) for _ in range(3))
    for (first, second, choice), count in counts.items():
        share = SHARES.get(choice)
        for name, part in {first: share, second: None if share is None else 1 - share}.items():
            met[name] += count * (part is not None)
            gained[name] += count * (part or 0)
            bad[name] += count * (part is None)
    places = [
        Place(
            name,
            float(middle),
            float(low),
            float(high),
            int(met[name]),
            gained[name],
            int(bad[name]),
        )
        for name, middle, low, high in zip(names, points, lows, highs, strict=True)
    ]
    return sorted(places, key=lambda place: (-place.low, -place.points, place.name))


def _matrix(counts: Mapping[tuple[str, str, str], int], names: Sequence[str]) -> np.ndarray:
    """How often each won against each, (count, count)."""
    number = {name: index for index, name in enumerate(names)}
    result = np.zeros((len(names), len(names)))
    for (first, second, choice), count in counts.items():
        if choice in SHARES and first != second:
            share = SHARES[choice]
            result[number[first], number[second]] += share * count
            result[number[second], number[first]] += (1 - share) * count
    return result


def _points(wins: np.ndarray) -> np.ndarray:
    """Strengths (..., count) in points, 1000 on average, of wins (..., count, count).

    By the iteration of Hunter 2004, "MM algorithms for generalized Bradley-Terry models".
    """
    games, won = wins + wins.swapaxes(-1, -2), wins.sum(-1) + _PRIOR
    strength = np.ones(won.shape)
    for _ in range(ROUNDS):
        met = (games / (strength[..., :, None] + strength[..., None, :])).sum(-1)
        new = won / (met + 2 * _PRIOR / (strength + 1))
        new /= np.exp(np.log(new).mean(-1, keepdims=True))
        change = np.abs(np.log(new / strength)).max()
        strength = new
        if change < 1e-4:  # a fiftieth of a point
            break
    return 1000 + SCALE * np.log(strength)


def _resampled(wins: np.ndarray, points: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Points (resamples, count) of votes drawn anew, as often for each pair as there were.

    A bootstrap from the odds that the points say, not from the votes themselves: those would make
    a single vote certain.
    """
    games = np.rint(wins + wins.T).astype(int)
    odds = 1 / (1 + np.exp((points - points[:, None]) / SCALE))
    upper = np.triu(np.ones_like(games), 1)
    drawn = np.random.default_rng(seed).binomial(games * upper, odds, (resamples, *games.shape))
    lost = (games * upper - drawn).swapaxes(-1, -2)
    return _points((drawn + lost).astype(float))


def markdown(places: Sequence[Place]) -> str:
    """The leaderboard as a table."""
    rows = ["| | variant | points | 95 % | votes | won | both bad | |", "|---" * 8 + "|"]
    for rank, place in enumerate(places, start=1):
        won = f"{place.wins / place.votes:.0%}" if place.votes else ""
        span = f"{place.low:.0f} to {place.high:.0f}"
        early = "preliminary" if place.preliminary else ""
        rows.append(
            f"| {rank} | {place.name} | {place.points:.0f} | {span} | {place.votes} | {won} | "
            f"{place.both_bad} | {early} |"
        )
    return "\n".join(rows)


def facts(places: Sequence[Place]) -> list[dict[str, Any]]:
    """The leaderboard for JSON."""
    return [asdict(place) | {"preliminary": place.preliminary} for place in places]
