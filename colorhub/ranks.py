"""What processes that train together share, so that N processes compute what one would.

Random draws are made for the joined batch and each rank keeps its own rows; statistics over the
batch are averaged over all ranks. Photo i of the joined batch belongs to rank i % world.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together, 1 outside of distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_rows(joined: Tensor) -> Tensor:
    """This rank's rows of a tensor made for the joined batch: (N * world, ...) to (N, ...)."""
    world = world_size()
    return joined if world == 1 else joined[dist.get_rank() :: world]


def draw_uniform(n: int, *shape: int, like: Tensor) -> Tensor:
    """(n, *shape) uniform in [0, 1), drawn on the CPU so that every device sees the same."""
    return own_rows(torch.rand(n * world_size(), *shape)).to(like.device)


def draw_normal(n: int, *shape: int, like: Tensor) -> Tensor:
    """(n, *shape) standard normal, drawn on the CPU so that every device sees the same."""
    return own_rows(torch.randn(n * world_size(), *shape)).to(like.device)


class _SumOverRanks(torch.autograd.Function):
    """A sum whose gradient reaches every rank's part: each output depends on all inputs."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of x over all ranks, differentiable; x itself outside of distributed training."""
    world = world_size()
    return x if world == 1 else _SumOverRanks.apply(x) / world
