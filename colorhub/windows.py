"""A film's colours at network size, from windows of frames that pass the network together.

A network of photos sees each frame alone; one of films sees `config.frames` at a time, and what two
windows say of the frames that they share fades from the one to the other. No window, and no
smoothing, goes beyond a scene's end.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from colorhub.colorizer import Colorizer
from colorhub.films import Frame
from colorhub.scenes import is_cut
from colorhub.smoothing import Smoother

SHARED = 4  # frames that a window has in common with the one before, of one that has 16
ON_GPU = 8  # photos that pass a network together there


@dataclass(frozen=True)
class Seen:
    """A frame and what the network sees of it: lightness (1, 1, h, w) in [-1, 1]."""

    frame: Frame
    lightness: Tensor


Group = list[tuple[Frame, Tensor]]


class Windows:
    """Colours frames in order; between groups its `state` is all that a later run needs.

    A later run is given that state and the frames after the last one that was coloured, and then
    says exactly what this one would have said.
    """

    def __init__(
        self,
        colorizer: Colorizer,
        *,
        seed: int = 0,
        smooth: bool = False,
        state: dict[str, Tensor] | None = None,
    ) -> None:
        self._colorizer, self._seed = colorizer, seed
        self._smoother = Smoother() if smooth else None
        frames = getattr(colorizer.generator.config, "frames", 0)
        self._film = frames > 0
        self._length = frames or (1 if colorizer.device.type == "cpu" else ON_GPU)
        self._shared = frames // SHARED
        state = dict(state or {})
        self._before = state.pop("before", None)  # lightness of the last frame coloured
        self._tail = state.pop("tail", None)  # ab (n, 2, h, w), already said of the next frames
        if self._smoother:
            self._smoother.state = state

    @property
    def state(self) -> dict[str, Tensor]:
        found = {"before": self._before, "tail": self._tail}
        state = {name: tensor for name, tensor in found.items() if tensor is not None}
        return state | (self._smoother.state if self._smoother else {})

    def groups(self, frames: Iterable[Seen]) -> Iterator[Group]:
        """Each frame with its ab (1, 2, h, w) in units of the network's output, in groups."""
        waiting: list[Seen] = []
        before = self._before
        for seen in chain(frames, [None]):
            if seen is None or (before is not None and is_cut(before, seen.lightness)):
                if waiting:
                    yield self._colored(waiting, len(waiting))
                self._tail = None
                waiting = []
                if self._smoother:
                    self._smoother.reset()
            if seen is None:
                return
            before = seen.lightness
            waiting.append(seen)
            if len(waiting) == self._length:
                ready = self._length - self._shared
                yield self._colored(waiting, ready)
                waiting = waiting[ready:]

    def _colored(self, waiting: list[Seen], ready: int) -> Group:
        """The first `ready` frames of a window, whose rest is kept as the next one's tail."""
        lightness = torch.cat([each.lightness for each in waiting])
        ab = self._faded(lightness)
        self._tail = ab[ready:].clone() if ready < len(waiting) else None
        self._before = lightness[ready - 1 : ready].clone()
        group = []
        for seen, said in zip(waiting[:ready], ab.split(1), strict=False):
            steady = self._smoother(seen.lightness, said) if self._smoother else said
            group.append((seen.frame, steady))
        return group

    def _faded(self, lightness: Tensor) -> Tensor:
        """ab (n, 2, h, w) of a window, or of the beginning of one: the last frame stands still."""
        tail, count = self._tail, len(lightness)
        if tail is not None and len(tail) == count:
            return tail
        if self._film:
            still = lightness[-1:].expand(self._length - count, -1, -1, -1)
            ab = self._ask(torch.cat((lightness, still)))[:count]
        else:
            ab = self._colorizer(lightness, seed=self._seed)
        if tail is not None:
            weight = torch.arange(1, len(tail) + 1).view(-1, 1, 1, 1) / (len(tail) + 1)
            faded = tail + (ab[: len(tail)] - tail) * weight
            ab = torch.cat((faded, ab[len(tail) :]))
        return ab

    @torch.inference_mode()
    def _ask(self, window: Tensor) -> Tensor:
        """A network of films: lightness (T, 1, h, w) to ab (T, 2, h, w)."""
        generator: Any = self._colorizer.generator
        return generator(window[None].to(self._colorizer.device))[0].float().cpu()
