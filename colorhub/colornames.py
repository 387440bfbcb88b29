"""Which colour a picture shows in its middle, by rule; and which one a sentence asks for."""

import torch
from torch import Tensor

from colorhub.color import rgb_to_lab
from colorhub.vocabulary import tokens

COLORS = ("white", "pink", "red", "orange", "yellow", "blue", "purple")
NONE = -1
GREY = 20  # Lab chroma below which a pixel has no hue
_RULES = (  # colour, hue in degrees from and to, lightness above and up to
    ("pink", 0, 20, 40, 101),
    ("red", 0, 20, -1, 40),
    ("red", 20, 48, -1, 101),
    ("orange", 48, 75, 35, 101),
    ("yellow", 75, 105, 45, 101),
    ("blue", 230, 298, -1, 101),
    ("purple", 298, 320, -1, 101),
    ("pink", 320, 360, 40, 101),
    ("purple", 320, 345, -1, 40),
    ("red", 345, 360, -1, 40),
)


def shown_colors(pictures: Tensor) -> Tensor:
    """The colours of pictures (N, 3, R, R) in [-1, 1], as places in `COLORS`, or -1: (N,).

    Each pixel of the middle half of the sides is named by its Lab colour: white if its chroma is
    below 20 and its lightness above 55, else by hue and lightness as `_RULES` say, which leave
    greens and what is dark without a name. The name that most pixels have is the picture's.
    """
    side = pictures.shape[-1]
    middle = slice(side // 4, side - side // 4)
    lab = rgb_to_lab((pictures[:, :, middle, middle].float().clamp(-1, 1) + 1) / 2)
    light, a, b = lab.unbind(1)
    chroma, hue = torch.hypot(a, b), torch.rad2deg(torch.atan2(b, a)) % 360
    names = torch.full(hue.shape, NONE)
    for color, low, high, darkest, brightest in _RULES:
        here = (hue >= low) & (hue < high) & (light > darkest) & (light <= brightest)
        names[here & (chroma >= GREY)] = COLORS.index(color)
    names[(chroma < GREY) & (light > 55)] = COLORS.index("white")
    counts = torch.stack([(names == n).flatten(1).sum(1) for n in range(len(COLORS))], dim=1)
    most, places = counts.max(dim=1)
    return torch.where(most > 0, places, NONE)


def asked_color(sentence: str) -> str | None:
    """The one colour of `COLORS` that a sentence names; None if it names none or several."""
    named = {word for word in tokens(sentence) if word in COLORS}
    return named.pop() if len(named) == 1 else None


def recolored(sentence: str, color: str) -> str:
    """The sentence with another colour for the one that it names."""
    words = [color if word in COLORS else word for word in tokens(sentence)]
    return " ".join(words)
