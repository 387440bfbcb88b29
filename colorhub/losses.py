"""How far predicted colours are from true ones: the losses that `natural` was chosen from.

All give fp32 scalars, means over the batch. ab is (N, 2, H, W), in Lab units where nothing else
is said.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from colorhub import palette
from colorhub.ranks import mean_over_ranks


def smooth_l1(
    ab: Tensor, truth: Tensor, *, saturation_weight: float = 0.0, beta: float = 2.0
) -> Tensor:
    """Absolute error, square below `beta`; a pixel weighs 1 + saturation_weight * chroma / 20.

    Most pixels of photographs are nearly grey (half have a chroma under 15), so plain regression
    learns to paint little. Weighing saturated ones more is the regression's counterpart of class
    rebalancing.
    """
    error = F.smooth_l1_loss(ab.float(), truth, beta=beta, reduction="none")
    weight = 1 + saturation_weight * truth.norm(dim=1, keepdim=True) / 20
    return (error * weight).mean()


def colorfulness_gap(rgb: Tensor, truth: Tensor) -> Tensor:
    """How much less colourful (Hasler & Suesstrunk 2003) pictures (N, 3, H, W) in [0, 1] are.

    After the colourfulness term of "DDColor" (Kang et al. 2023), which asks for as much as can
    be had; here what the true photo has is enough. In units of the metric over 100.
    """
    return F.relu(_colorfulness(truth) - _colorfulness(rgb.float())).mean() / 100


def _colorfulness(rgb: Tensor) -> Tensor:
    red, green, blue = (255 * rgb).flatten(2).unbind(1)
    opponents = torch.stack((red - green, (red + green) / 2 - blue), dim=1)
    spread = (opponents.var(dim=2).sum(1) + 1e-6).sqrt()
    return spread + 0.3 * (opponents.mean(dim=2).square().sum(1) + 1e-6).sqrt()


def relative_square(maps: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean square of what maps lack of wanted ones, in units of the wanted ones' own.

    For the distillation of features: a student that sees grey is to find what its teacher finds
    in colour (Hinton et al. 2015; on features Romero et al., "FitNets", 2015).
    """
    parts = [
        F.mse_loss(ours.float(), theirs.float()) / mean_over_ranks(theirs.float().square().mean())
        for ours, theirs in zip(maps, wanted, strict=True)
    ]
    return torch.stack(parts).mean()


def features(seen: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Perceptual distance (Johnson et al. 2016): L1 of a backbone's maps of 1/4 to 1/16."""
    pairs = zip(seen[1:4], wanted[1:4], strict=True)
    return torch.stack([F.l1_loss(ours.float(), theirs.float()) for ours, theirs in pairs]).mean()


def nearest(error: Tensor, shifts: Tensor, *, relaxed: float = 0.05) -> Tensor:
    """Smooth L1 of errors (N, 2, H, W) and the nearest of K shifts (N, K, 2, H, W) of each photo.

    A share of `relaxed` goes to all alike, so that none is left behind, and the less often one is
    nearest on photos like this, the closer to plain it stays. After Rupprecht et al. ("Learning
    in an Uncertain World", 2017), who leave the nearest out of that share.
    """
    wanted = error[:, None].expand_as(shifts)
    distance = F.smooth_l1_loss(shifts.float(), wanted, beta=2.0, reduction="none")
    distance = distance.mean(dim=(2, 3, 4))
    return ((1 - relaxed) * distance.amin(1) + relaxed * distance.mean(1)).mean()


def laplace(error: Tensor, log_scale: Tensor) -> Tensor:
    """Negative log-likelihood, less a constant, of errors (N, 2, H, W) a pixel.

    Under a density in the plane of ab that falls as exp(-distance / scale), with the logarithm of
    the scale (N, 1, H, W) in the errors' unit, whichever it is: the mean distance is twice the
    scale, its mean square six times the square of it.
    """
    log_scale = log_scale.float()
    distance = error.float().norm(dim=1, keepdim=True)
    return (distance * (-log_scale).exp() + 2 * log_scale).mean()


class Rarity(torch.nn.Module):
    """How often each quantised colour occurs, learned in passing; rare ones get more weight.

    Weights are 1 / ((1 - lambda) * share + lambda / Q), their mean over the data 1, with lambda
    0.5 (Zhang et al. 2016, equations 3 and 4, without their smoothing).
    """

    share: Tensor

    def __init__(self, momentum: float = 0.01) -> None:
        super().__init__()
        count = len(palette.colours())
        self.register_buffer("share", torch.full((count,), 1 / count))
        self.momentum = momentum

    def forward(self, encoded: Tensor) -> Tensor:
        """Encoded colours (N, Q, H, W) to the weights (N, H, W) of their likeliest."""
        with torch.no_grad():
            now = mean_over_ranks(encoded.mean(dim=(0, 2, 3)))
            self.share.lerp_(now, self.momentum)
            weights = 1 / (0.5 * self.share + 0.5 / len(self.share))
            weights /= (weights * self.share).sum()
            return weights[encoded.argmax(dim=1)]


def classification(logits: Tensor, truth: Tensor, rarity: Rarity | None) -> Tensor:
    """Cross entropy of logits (N, Q, h, w) with true ab, averaged to their size and quantised."""
    small = F.adaptive_avg_pool2d(truth, (logits.shape[2], logits.shape[3]))
    encoded = palette.encode(small)
    entropy = -(encoded * F.log_softmax(logits.float(), dim=1)).sum(1)
    return (entropy * rarity(encoded)).mean() if rarity else entropy.mean()
