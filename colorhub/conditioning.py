"""Do pictures follow their sentences: colours asked for, variety, distance to the true pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from colorhub.colornames import COLORS, asked_color, recolored, shown_colors
from colorhub.painting import painted

CHANCE = 1 / len(COLORS)
LEVELS = 127.5  # of 8 bits in a unit of [-1, 1]


@dataclass(frozen=True)
class Hits:
    """Shares of pictures that show, by `shown_colors`, the colour that a sentence asks for."""

    sentences: int
    own: float  # the picture of the sentence
    shuffled: float  # a picture of any of the sentences: the mean over all pairs

    @classmethod
    def of(cls, pictures: Tensor, sentences: Sequence[str]) -> "Hits":
        """Pictures (N, 3, R, R) beside sentences that name a colour each."""
        asked = torch.tensor([COLORS.index(asked_color(each) or "") for each in sentences])
        hits = asked[:, None] == shown_colors(pictures)
        return cls(len(asked), hits.diagonal().float().mean().item(), hits.float().mean().item())


@dataclass(frozen=True)
class Figures:
    """How a generator follows sentences it has not seen with their pictures."""

    hits: Hits  # of held-back sentences
    unseen: Hits  # of these with every other colour, less what training holds
    real: Hits  # of the held-back pictures themselves, which says how good the rule is
    apart: float  # between pictures of different sentences, root mean square in 8-bit levels
    real_apart: float  # between different real pictures
    to_own: float  # between a sentence's picture and the real one
    to_others: float  # between a sentence's picture and another sentence's real one


def figures(
    generator: Any, sentences: Sequence[str], truth: Tensor, seen: set[str], *, device: str = "cpu"
) -> Figures:
    """Figures over held-back sentences and their pictures (N, 3, R, R) in [-1, 1], seed 0.

    `seen` are the captions of training. Sentences that name no colour, or several, count for
    the distances alone.
    """
    last = painted(generator, list(sentences), device=device)[:, -1]
    colored = [n for n, each in enumerate(sentences) if asked_color(each)]
    named = [sentences[n] for n in colored]
    others = [recolored(each, color) for each in named for color in COLORS]
    others = [each for each in dict.fromkeys(others) if each not in seen]
    new = painted(generator, others, device=device)[:, -1]
    between = _distances(last, truth)
    return Figures(
        hits=Hits.of(last[colored], named),
        unseen=Hits.of(new, others),
        real=Hits.of(truth[colored], named),
        apart=_off_diagonal(_distances(last, last)),
        real_apart=_off_diagonal(_distances(truth, truth)),
        to_own=between.diagonal().mean().item(),
        to_others=_off_diagonal(between),
    )


def _distances(one: Tensor, two: Tensor) -> Tensor:
    """Root mean square distances of all pairs, in 8-bit levels: (N, N)."""
    values = one[0].numel()
    return LEVELS * torch.cdist(one.flatten(1), two.flatten(1)) / values**0.5


def _off_diagonal(square: Tensor) -> float:
    count = len(square)
    return ((square.sum() - square.diagonal().sum()) / max(count * (count - 1), 1)).item()


def tables(variants: dict[str, Figures]) -> list[dict[str, Any]]:
    """The figures of some generators as tables of results.json."""
    one = next(iter(variants.values()))
    colors = [
        [
            name,
            f"{each.hits.own:.0%}",
            f"{each.hits.shuffled:.0%}",
            f"{each.unseen.own:.0%}",
            f"{each.unseen.shuffled:.0%}",
        ]
        for name, each in variants.items()
    ]
    distances = [
        [name, f"{each.apart:.1f}", f"{each.to_own:.1f}", f"{each.to_others:.1f}"]
        for name, each in variants.items()
    ]
    return [
        {
            "about": f"How often the middle of the picture shows the colour that the sentence "
            f"names, one of {', '.join(COLORS)}, by the rule in `colorhub/colornames.py`: for "
            f"{one.hits.sentences} held-back captions, and for these with every other colour in "
            f"its place, where training has no such caption ({one.unseen.sentences} sentences). "
            f"Shuffled is the same picture against another sentence of the lot. Chance is "
            f"{CHANCE:.0%}; the held-back pictures themselves show it in {one.real.own:.0%}:",
            "heads": ["", "held-back", "shuffled", "unseen with this colour", "shuffled"],
            "rows": colors,
        },
        {
            "about": "Distances between pictures, root mean square in 8-bit levels: between those "
            "of different held-back captions (different real pictures are "
            f"{one.real_apart:.1f} apart), and from the picture of a caption to the real one and "
            "to other captions' real ones; seed 0:",
            "heads": ["", "apart", "to the own", "to others"],
            "rows": distances,
        },
    ]
