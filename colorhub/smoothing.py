"""Colours of a film made steady: each pixel's ab averaged over the frames that it was seen in.

A network that colours frame by frame says something a little different each time. What it said of
a pixel before is warped along the optical flow to where the pixel is now and averaged with what it
says now, as long as the pixel can be followed: a running mean over its life, of `MEMORY` frames at
the most. Where something comes into sight, its life begins anew.
"""

import numpy as np
import torch
from torch import Tensor

from colorhub.flow import flow, grey

MEMORY = 12.0  # frames that a mean goes back, about


class Smoother:
    """Steadies the ab of one scene after the other; `reset` begins a scene."""

    def __init__(self, memory: float = MEMORY) -> None:
        self.memory = memory
        self.state: dict[str, Tensor] = {}
        """Of the last frame: grey (h, w) uint8, ab (h, w, 2), life (h, w) in frames."""

    def reset(self) -> None:
        self.state = {}

    def __call__(self, lightness: Tensor, ab: Tensor) -> Tensor:
        """The next frame's lightness (1, 1, h, w) in [-1, 1] and ab (1, 2, h, w), to steady ab."""
        now, said = grey(lightness[0, 0].numpy()), ab[0].permute(1, 2, 0).numpy()
        life = np.ones(now.shape, np.float32)
        if self.state:
            before, former, former_life = (self.state[name].numpy() for name in _NAMES)
            path = flow(now, before)
            life += np.minimum(path.warp(former_life), self.memory - 1) * path.trust
            past = path.warp(former)
            said = past + (said - past) / life[..., None]
        said = np.ascontiguousarray(said, np.float32)
        self.state = dict(zip(_NAMES, map(torch.from_numpy, (now, said, life)), strict=True))
        return torch.from_numpy(said).permute(2, 0, 1)[None]


_NAMES = ("grey", "ab", "life")
