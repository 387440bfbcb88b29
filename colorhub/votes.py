"""Votes on which of two results looks more natural, and who leads by them.

A vote is a line of JSON. Strengths are those of Bradley & Terry 1952, "Rank Analysis of Incomplete
Block Designs": the odds of one against the other are the quotient of their strengths. A tie is half
a win for each; "both bad" says nothing of who is better and is only counted.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from colorhub.errors import DataError

CHOICES = ("first", "second", "tie", "both bad")
REAL = "the real photo"
"""What stands in the place of a variant where a result was shown beside the true colours."""
PRELIMINARY = 50
"""Votes below which a place says little."""
ROUNDS = 200  # of the iteration, at most
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
    """The middle 95 % of what resampled votes give."""
    votes: int
    wins: float
    """With ties as half a win."""
    both_bad: int

    @property
    def preliminary(self) -> bool:
        """Whether there are too few votes to say much."""
        return self.votes < PRELIMINARY


def append(path: str | os.PathLike[str], vote: Vote) -> None:
    """Add a vote to the end of a file, in one write: what is there stays as it is."""
    line = json.dumps(asdict(vote), ensure_ascii=False) + "\n"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read(places: Iterable[str | os.PathLike[str]]) -> tuple[list[Vote], list[str]]:
    """Votes of files, and of all *.jsonl files in folders; and a word on each line that is none.

    Raises DataError if there is no such place, or no vote in any.
    """
    votes: list[Vote] = []
    complaints: list[str] = []
    for place in map(Path, places):
        if not place.exists():
            raise DataError(f"{place}: there is no such file or folder.")
        for path in sorted(place.rglob("*.jsonl")) if place.is_dir() else [place]:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    votes.append(_parsed(line))
                except (ValueError, TypeError, KeyError):
                    complaints.append(f"{path}, line {number} is no vote and is passed over.")
    if not votes:
        raise DataError("There are no votes there: each is a line of JSON in a file *.jsonl.")
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
    names = sorted({name for vote in votes for name in vote.names})
    decided = _decided(votes, names)
    points = _points(_matrix(decided, np.ones((1, len(decided))), len(names)))[0]
    # Each resample draws as many votes as there are, some twice, some not at all.
    chances = np.full(max(len(decided), 1), 1 / max(len(decided), 1))
    drawn = np.random.default_rng(seed).multinomial(len(decided), chances, size=resamples)
    spread = _points(_matrix(decided, drawn[:, : len(decided)], len(names)))
    lows, highs = np.percentile(spread, (2.5, 97.5), axis=0)
    places = []
    for name, middle, low, high in zip(names, points, lows, highs, strict=True):
        mine = [vote for vote in votes if name in vote.names]
        both_bad = sum(vote.choice == "both bad" for vote in mine)
        wins = sum(_won(vote, name) for vote in mine)
        places.append(
            Place(
                name, float(middle), float(low), float(high), len(mine) - both_bad, wins, both_bad
            )
        )
    return sorted(places, key=lambda place: (-place.low, place.name))


def _won(vote: Vote, name: str) -> float:
    if vote.choice in ("first", "second"):
        return float(vote.names[vote.choice == "second"] == name)
    return 0.5 if vote.choice == "tie" else 0.0


def _decided(votes: Sequence[Vote], names: Sequence[str]) -> list[tuple[int, int, float]]:
    """First's and second's number, and the first's share of the win, of each decided vote."""
    number = {name: index for index, name in enumerate(names)}
    shares = {"first": 1.0, "second": 0.0, "tie": 0.5}
    return [
        (number[vote.names[0]], number[vote.names[1]], shares[vote.choice])
        for vote in votes
        if vote.choice in shares
    ]


def _matrix(wins: Sequence[tuple[int, int, float]], weights: np.ndarray, count: int) -> np.ndarray:
    """How often each won against each, (samples, count, count), votes weighted (samples, votes)."""
    result = np.zeros((len(weights), count, count))
    for (first, second, share), weight in zip(wins, weights.T, strict=True):
        if first != second:
            result[:, first, second] += share * weight
            result[:, second, first] += (1 - share) * weight
    return result


def _points(wins: np.ndarray) -> np.ndarray:
    """Strengths (samples, count) in points, 1000 on average, of wins (samples, count, count).

    By the iteration of Hunter 2004, "MM algorithms for generalized Bradley-Terry models".
    """
    games = wins + wins.transpose(0, 2, 1)
    won = wins.sum(2) + _PRIOR
    strength = np.ones(won.shape)
    for _ in range(ROUNDS):
        met = (games / (strength[:, :, None] + strength[:, None])).sum(2)
        new = won / (met + 2 * _PRIOR / (strength + 1))
        new /= np.exp(np.log(new).mean(1, keepdims=True))
        change = np.abs(np.log(new / strength)).max()
        strength = new
        if change < 1e-6:
            break
    return 1000 + 400 / math.log(10) * np.log(strength)


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
