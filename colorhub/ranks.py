"""What processes that train together share, so that N processes compute what one would.

Random draws are made for the joined batch and each rank keeps its own rows; statistics over the
batch are averaged over all ranks. Photo i of the joined batch belongs to rank i % world.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(hours=12)
"""How long processes wait for each other: for data that is slow, for one that measures."""


def world_size() -> int:
    """Number of processes that train together, 1 outside of distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextmanager
def launched() -> Iterator[tuple[int, int]]:
    """This process's number and how many there are, where a launcher started several.

    At the end each waits for the others: launchers stop all when the first fails. One that ends by
    an error does not wait, so that they are stopped.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield 0, 1
        return
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield rank(), world
        dist.barrier()
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """This process's number among those that train together, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def step_seed(seed: int, step: int) -> int:
    """The seed of a step's random draws: 63 bits that neighbouring steps and seeds do not share."""
    digest = hashlib.sha256(f"{seed} {step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def own_rows(joined: Tensor) -> Tensor:
    """This rank's rows of a tensor made for the joined batch: (N * world, ...) to (N, ...)."""
    world = world_size()
    return joined if world == 1 else joined[rank() :: world]


def onto(device: torch.device, x: Tensor) -> Tensor:
    """x on the device, without making a GPU stand still for it."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def draw_uniform(n: int, *shape: int, like: Tensor) -> Tensor:
    """(n, *shape) uniform in [0, 1), drawn on the CPU so that every device sees the same."""
    return onto(like.device, own_rows(torch.rand(n * world_size(), *shape)))


def draw_normal(n: int, *shape: int, like: Tensor) -> Tensor:
    """(n, *shape) standard normal, drawn on the CPU so that every device sees the same."""
    return onto(like.device, own_rows(torch.randn(n * world_size(), *shape)))


class _SumOverRanks(torch.autograd.Function):
    """A sum whose gradient reaches every rank's part: each output depends on all inputs."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _SumOverRanks.apply(gradient)  # a sum as well, and differentiable again


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of x over all ranks, differentiable; x itself outside of distributed training."""
    world = world_size()
    return x if world == 1 else _SumOverRanks.apply(x) / world


def gather_rows(x: Tensor) -> Tensor:
    """The joined batch's rows in joined order, on every rank: (N, ...) to (N * world, ...).

    N must be the same on all ranks; x itself outside of distributed training. Differentiable:
    where all ranks compute the same loss from the rows and average their parameters' gradients,
    these are the gradients that one process with the joined batch would have.
    """
    world = world_size()
    if world == 1:
        return x
    joined = x.new_zeros(len(x), world, *x.shape[1:])
    joined[:, rank()] = x
    return _SumOverRanks.apply(joined).flatten(0, 1)


def total(*counts: int) -> list[int]:
    """Sums of the ranks' counts, on every rank. Does not wait for a GPU."""
    if world_size() == 1:
        return list(counts)
    sums = torch.tensor(counts)
    dist.all_reduce(sums, group=_host_group(dist.group.WORLD))
    return sums.tolist()


def gather_pieces(piece: Tensor, most: int) -> list[Tensor]:
    """The pieces (n, ...) of all ranks that hold any rows, n at most `most`; held by the host."""
    if world_size() == 1:
        return [piece] if len(piece) else []
    padded = piece.new_zeros(most, *piece.shape[1:])
    padded[: len(piece)] = piece
    everyone = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(everyone, padded, group=_host_group(dist.group.WORLD))
    lengths = gather(len(piece))
    return [rows[:n] for rows, n in zip(everyone, lengths, strict=True) if n]


def gather(value: Any) -> list[Any]:
    """What each rank gives, in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value, group=_host_group(dist.group.WORLD))
    return values


def broadcast(value: Any, source: int) -> Any:
    """What rank `source` gives, on every rank."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, source, group=_host_group(dist.group.WORLD))
    return values[0]


@lru_cache(maxsize=1)
def _host_group(everyone: Any) -> Any:
    """All ranks, speaking through the host's memory even where they train on GPUs."""
    gloo = dist.get_backend() == "gloo"
    return everyone if gloo else dist.new_group(backend="gloo", timeout=PATIENCE)
