"""Building blocks that networks share."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.ranks import draw_uniform, mean_over_ranks, world_size

N = TypeVar("N", bound=nn.Module)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the joined batch of all ranks, on any device.

    torch's SyncBatchNorm does the same on GPUs only; without it two processes with half the batch
    each would train another network than one process with the whole.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and world_size() > 1):
            return super().forward(x)
        wide = x.float()
        mean = mean_over_ranks(wide.mean(dim=(0, 2, 3)))
        centred = wide - mean[:, None, None]
        variance = mean_over_ranks(centred.square().mean(dim=(0, 2, 3)))
        self._track(mean.detach(), variance.detach(), count=x.numel() // x.shape[1] * world_size())
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)


class Dropout2d(nn.Module):
    """Drops whole channels with probability p; every rank draws the joined batch's channels."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = draw_uniform(x.shape[0], x.shape[1], 1, 1, like=x) >= self.p
        return x * (kept.to(x.dtype) / (1 - self.p))


class ResBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU, dropout between, and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm1 = BatchNorm2d(channels_out)
        self.dropout = Dropout2d(dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(channels_out)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(F.relu(self.norm1(self.conv1(x))))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the right and bottom edge until both sides divide by `multiple`: (N, C, H, W)."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def channels_last(network: N) -> N:
    """The network with its weights laid out for the fastest convolutions."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
