"""Predicted colours made stronger, more saturated or warmer, without asking the network again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from colorhub.errors import OptionError

_PALE = 30.0  # chroma in Lab units up to which a colour counts as pale
_WARM = (5.0, 15.0)  # what full warmth adds to a and b: towards orange


@dataclass(frozen=True)
class Adjustment:
    """How colours are changed. Raises OptionError for what is out of range."""

    strength: float = 1.0
    """All colours times that much: 0 gives the grey photo."""
    saturation: float = 1.0
    """Pale colours times that much, strong ones less: 1 changes nothing."""
    warmth: float = 0.0
    """From -1, bluish, to 1, orange."""
    gain: float = 1.0
    """All colours times that much, as `ab_gain` does it: 2 for a gain of 256 instead of 128."""

    def __post_init__(self) -> None:
        for name in ("strength", "saturation", "gain"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise OptionError(f"{name} is {getattr(self, name)}; it must be 0 or more.")
        if not -1 <= self.warmth <= 1:
            raise OptionError(f"warmth is {self.warmth}; it must be between -1 and 1.")

    def __call__(self, ab: Tensor) -> Tensor:
        """ab (N, 2, h, w) in Lab units to ab as adjusted."""
        ab = ab * self.gain
        if self.saturation != 1:
            pale = torch.exp(-ab.norm(dim=1, keepdim=True) / _PALE)
            ab = ab * (1 + (self.saturation - 1) * pale)
        if self.warmth:
            ab = ab + self.warmth * torch.tensor(_WARM).view(1, 2, 1, 1)
        return ab * self.strength
