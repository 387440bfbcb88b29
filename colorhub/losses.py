"""How far predicted colours are from true ones: the losses that `natural` was chosen from.

All take ab (N, 2, H, W) in Lab units and give fp32 scalars, means over the batch.
"""

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


def low_rank_gaussian(error: Tensor, shifts: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log-likelihood of errors (N, 2, H, W) a value, under a Gaussian over the picture.

    Its covariance is diagonal, exp(log_variance) (N, 2, H, W), plus the products of the K shifts
    (N, K, 2, H, W) with themselves (Monteiro et al., "Stochastic Segmentation Networks", 2020).
    """
    with torch.autocast(error.device.type, enabled=False):
        count = error[0].numel()
        variance = log_variance.float().clamp(-10, 10).exp()
        gaussian = torch.distributions.LowRankMultivariateNormal(
            torch.zeros(len(error), count, device=error.device),
            shifts.float().flatten(2).transpose(1, 2),
            variance.flatten(1),
            validate_args=False,
        )
        return -gaussian.log_prob(error.float().flatten(1)).mean() / count


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
