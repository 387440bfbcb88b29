"""Building blocks that networks share."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from colorhub.ranks import draw_uniform, world_size

N = TypeVar("N", bound=nn.Module)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu, "elu": F.elu}


class _JointBatchNorm(torch.autograd.Function):
    """x normalised by mean and variance of all ranks' x, which are as large; both come along.

    The passes over x are torch's own kernels: they keep its layout and dtype, and add in fp32.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        blank, blanks = weight.new_zeros(2, len(weight))  # running statistics, for their dtype
        own = torch.stack(torch.batch_norm_update_stats(x, blank, blanks, 0.0))
        means, variances = _of_all_ranks(own).unbind(1)
        mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, *_):
        """Ioffe & Szegedy 2015, section 3: with z for the normalised x and E over all ranks,
        weight / deviation * (gradient - E[gradient] - z * E[gradient * z])."""
        x, weight, mean, variance = ctx.saved_tensors
        inverse = (variance + ctx.eps).rsqrt()
        _, *sums = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, inverse, True, ctx.eps, [False, True, True]
        )  # this rank's, of gradient * z and of gradient
        slope, shift = -_of_all_ranks(torch.stack(sums)).mean(0) * x.shape[1] / x.numel()
        rest = F.batch_norm(x, mean, variance, slope, shift, eps=ctx.eps).add_(gradient)
        scaled = F.batch_norm(rest, torch.zeros_like(mean), variance, weight, eps=ctx.eps)
        return scaled, *sums, None


def _of_all_ranks(own: Tensor) -> Tensor:
    """(...) to (world, ...), the same on every rank; gloo takes half the time of a sum."""
    everyone = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(everyone, own)
    return torch.stack(everyone)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the joined batch of all ranks, on any device.

    torch's SyncBatchNorm does the same on GPUs only; without it two processes with half the batch
    each would train another network than one process with the whole.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and world_size() > 1):
            return super().forward(x)
        y, mean, variance = _JointBatchNorm.apply(x, self.weight, self.bias, self.eps)
        self._track(mean, variance, count=x.numel() // x.shape[1] * world_size())
        return y

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)


class Dropout(nn.Module):
    """Drops values with probability p; every rank draws those of the joined batch."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = draw_uniform(*self._draws(x), like=x) >= self.p
        return x * (kept.to(x.dtype) / (1 - self.p))

    def _draws(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape)


class Dropout2d(Dropout):
    """Drops whole channels."""

    def _draws(self, x: Tensor) -> tuple[int, ...]:
        return *x.shape[:2], 1, 1


class ResBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm and an activation (a name in `ACTIVATIONS`),
    dropout between, and a shortcut."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        dropout: float = 0.0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm1 = BatchNorm2d(channels_out)
        self.dropout = Dropout2d(dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(channels_out)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.activation(self.norm1(self.conv1(x))))
        return self.activation(self.norm2(self.conv2(y)) + self.shortcut(x))


class MeanWeights(nn.Module):
    """A network's running mean over the steps, as `module`; its buffers are the network's own.

    The decay is lower in the beginning, that the first weights do not stay for long.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int) -> None:
        """Take in the weights after `step`, counted from 1."""
        share = 1 - min(self.decay, step / (step + 9))
        means: list[Tensor] = [*self.module.parameters()]
        weights: list[Tensor] = [*network.parameters()]
        torch._foreach_lerp_(means, weights, share)
        for mean, buffer in zip(self.module.buffers(), network.buffers(), strict=True):
            mean.copy_(buffer)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the right and bottom edge until both sides divide by `multiple`: (N, C, H, W)."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def start_small(network: nn.Module) -> None:
    """Give convolutions and batch norms the first weights of DCGAN and pix2pix, in place."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)


def channels_last(network: N) -> N:
    """The network with its weights laid out for the fastest convolutions."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class ConvLSTMCell(nn.Module):
    """A step of the convolutional LSTM (Shi et al. 2015, equation 3), on maps of `side` pixels.

    The gates see the input and the last output by one `kernel` x `kernel` convolution, and the
    memory cell through weights of each pixel's own, which start at 0. The forget gate's bias starts
    at 1, so that the memory is kept from the beginning (Jozefowicz et al. 2015).
    """

    def __init__(self, channels_in: int, channels: int, *, side: int, kernel: int = 3) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels_in + channels, 4 * channels, kernel, padding=kernel // 2)
        self.peepholes = nn.Parameter(torch.zeros(3, channels, side, side))
        with torch.no_grad():
            self.gates.bias[channels : 2 * channels] += 3  # type: ignore[index]

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """x (N, channels_in, side, side), (h, c) both (N, channels, side, side), to the next."""
        h, c = state
        # Few channels are faster plane by plane, however the weights are laid out elsewhere.
        weight, bias = self.gates.weight.contiguous(), self.gates.bias
        both = torch.cat((x, h.to(x.dtype)), dim=1).contiguous()
        gates = F.conv2d(both, weight, bias, padding=self.gates.padding)  # type: ignore[arg-type]
        wanted, kept, new, shown = gates.chunk(4, dim=1)
        of_input, of_forget, of_output = self.peepholes
        c = torch.sigmoid(kept + of_forget * c) * c + torch.sigmoid(
            wanted + of_input * c
        ) * torch.tanh(new)
        return torch.sigmoid(shown + of_output * c) * torch.tanh(c), c
