"""Where a film cuts from one scene to another, told by two neighbouring frames alone.

A cut changes three things at once: small pictures of the two frames differ on average, they do not
correlate, and the histograms of their lightness differ. Fast motion changes one or two of these.
Thresholds are set on the clips of benchmarks/film.py; fades and dissolves are no cuts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_SIZE = (24, 32)  # of the small pictures
_BINS = 64
_APART = 10.0  # mean difference of lightness, of 100
_ALIKE = 0.52  # correlation
_TONES = 0.10  # share of pixels that have another lightness


def is_cut(before: Tensor, now: Tensor) -> bool:
    """Whether a scene begins with `now`: two frames' lightness (1, 1, h, w) in [-1, 1]."""
    first, second = (F.adaptive_avg_pool2d(each, _SIZE).flatten() * 50 for each in (before, now))
    apart = (first - second).abs().mean()
    if apart <= _APART:
        return False
    first, second = first - first.mean(), second - second.mean()
    alike = (first @ second) / (first.norm() * second.norm()).clamp(min=1e-6)
    if alike >= _ALIKE:
        return False
    return bool((_tones(before) - _tones(now)).abs().sum() / 2 > _TONES)


def _tones(lightness: Tensor) -> Tensor:
    """A histogram of lightness whose sum is 1, a little smoothed."""
    counts = torch.histc(lightness, _BINS, -1, 1)
    smooth = F.avg_pool1d(counts[None], 5, stride=1, padding=2)[0]
    return smooth / smooth.sum()
