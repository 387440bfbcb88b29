"""Quantised ab: the colours that sRGB can show, as classes (Zhang et al., "Colorful Image
Colorization", 2016)."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from colorhub.color import lab_to_rgb

STEP = 10  # Lab units between neighbouring colours


@functools.cache
def colours() -> Tensor:
    """(Q, 2) ab of the grid's points that sRGB shows at some lightness, in Lab units."""
    with torch.device("cpu"):
        axis = torch.arange(-110.0, 111.0, STEP)
        ab = torch.cartesian_prod(axis, axis)
        lightness = torch.arange(1.0, 100.0)
        lab = torch.cat(
            (
                lightness.repeat_interleave(len(ab))[:, None],
                ab.repeat(len(lightness), 1),
            ),
            dim=1,
        )
        rgb = lab_to_rgb(lab.T[None, :, :, None])[0, :, :, 0]
        shown = ((rgb >= 0) & (rgb <= 1)).all(0).view(len(lightness), len(ab)).any(0)
    return ab[shown]


def encode(ab: Tensor, *, neighbours: int = 5, sigma: float = 5.0) -> Tensor:
    """ab (N, 2, H, W) in Lab units to shares (N, Q, H, W) of the nearest colours, by a Gaussian."""
    pixels = ab.permute(0, 2, 3, 1).reshape(-1, 2)
    distance, index = torch.cdist(pixels, colours().to(ab.device)).topk(neighbours, largest=False)
    share = F.softmax(-distance.square() / (2 * sigma**2), dim=1)
    spread = torch.zeros(len(pixels), len(colours()), device=ab.device)
    spread.scatter_(1, index, share)
    return spread.view(len(ab), *ab.shape[2:], -1).permute(0, 3, 1, 2)


def annealed_mean(logits: Tensor, *, temperature: float = 0.38) -> Tensor:
    """Logits (N, Q, H, W) to ab (N, 2, H, W): between the mean (1) and the mode (0)."""
    shares = F.softmax(logits.float() / temperature, dim=1)
    return torch.einsum("nqhw,qc->nchw", shares, colours().to(logits.device))
