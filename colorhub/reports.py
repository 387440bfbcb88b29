"""What the steps of a run report, read without making a GPU stand still for it."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from colorhub.ranks import mean_over_ranks


class Reports:
    """Scalars by name; those of a step are averaged over its batches and over all ranks."""

    def __init__(self) -> None:
        self._step: dict[str, list[Tensor]] = {}  # the present one's
        self._unread: list[tuple[int, list[str], Tensor]] = []

    def add(self, name: str, value: Tensor) -> None:
        """Report a scalar of the present step; it stays on its device."""
        self._step.setdefault(name, []).append(value.detach().float())

    def end_step(self, step: int, networks: Mapping[str, nn.Module]) -> None:
        """The step is over; to its report come the networks' norms, as "norm of NAME"."""
        if not self._step:
            return
        for name, network in networks.items():
            if weights := [*network.parameters()]:
                self.add(f"norm of {name}", torch.nn.utils.get_total_norm(weights))
        means = torch.stack([torch.stack(values).mean() for values in self._step.values()])
        self._unread.append((step, list(self._step), mean_over_ranks(means)))
        self._step = {}

    def read(self, *, wait: bool) -> Iterator[tuple[int, dict[str, float]]]:
        """(step, values) not read so far; the last step's only if told to `wait` for the device."""
        while len(self._unread) > (0 if wait else 1):
            step, names, means = self._unread.pop(0)
            yield step, dict(zip(names, means.tolist(), strict=True))

    def forget(self) -> None:
        """Drop what was not read."""
        self._step, self._unread = {}, []
