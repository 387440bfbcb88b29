"""Pictures from random numbers: a generator of kind noise, and what it draws."""

import math
import os
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from colorhub import weights
from colorhub.colorizer import pick_device
from colorhub.errors import OptionError
from colorhub.generators import KINDS
from colorhub.hub import Variant, resolve
from colorhub.layers import channels_last

MOST = 1024  # pictures at a time
CELL = 64  # pixels that a sheet's pictures have at least, if whole pixels can be repeated
_BLOCK = 16  # pictures that pass the network together, always: their last bits depend on it


class Sampler:
    """A generator of kind noise, ready to draw.

    Sampler.from_pretrained("digits").sample(16, seed=0)[0].save("first.png")
    """

    def __init__(
        self, generator: Any, *, device: str = "auto", variant: Variant | None = None
    ) -> None:
        self.device = pick_device(device)
        self.generator = channels_last(generator).to(self.device).eval()
        self.variant = variant

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str], *, revision: str | None = None, device: str = "auto"
    ) -> "Sampler":
        """The variant of a name: bundled, a folder, or owner/name[@revision] on the Hub.

        Raises NotFoundError, HubError, or VariantError, also if it is of another kind.
        """
        variant = resolve(name, revision=revision)
        generator = weights.load(variant.folder, KINDS["noise"])
        return cls(generator, device=device, variant=variant)

    def sample(self, count: int, *, seed: int = 0) -> list[Image.Image]:
        """Pictures, PIL RGB; the same of a seed, whatever the count. At most 1024.

        Raises OptionError for a count or a seed that cannot be.
        """
        if not 1 <= count <= MOST:
            raise OptionError(f"The count is {count}; it must be from 1 to {MOST}.")
        if not 0 <= seed < 2**63:
            raise OptionError(f"The seed is {seed}; it must be 0 or more, and below 2^63.")
        return pictures(draw(self.generator, count, seed=seed, device=self.device))


@torch.no_grad()
def draw(
    generator: Any, count: int, *, seed: int = 0, device: torch.device | str = "cpu"
) -> Tensor:
    """(count, C, R, R) in [-1, 1], on the CPU, by a generator in evaluation mode."""
    own = torch.Generator().manual_seed(seed)  # on the CPU: every device sees the same
    rows = [torch.randn(generator.config.noise_dim, generator=own) for _ in range(count)]
    rows += [torch.zeros_like(rows[0])] * (-count % _BLOCK)
    blocks = torch.stack(rows).to(device).split(_BLOCK)
    return torch.cat([generator(block).float().cpu() for block in blocks])[:count]


def pictures(drawn: Tensor) -> list[Image.Image]:
    """(N, C, R, R) in [-1, 1] as PIL RGB."""
    levels = ((drawn.clamp(-1, 1) + 1) * 127.5).round().byte()
    rows = levels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
    return [Image.fromarray(row) for row in rows]


def sheet(drawn: Sequence[Image.Image], *, columns: int | None = None) -> Image.Image:
    """Pictures of one size on a sheet, as near to a square as they go; small ones are enlarged."""
    columns = columns or math.ceil(math.sqrt(len(drawn)))
    width, height = drawn[0].size
    factor = max(1, CELL // width)
    cell = (width * factor, height * factor)
    rows = math.ceil(len(drawn) / columns)
    whole = Image.new("RGB", (columns * (cell[0] + 2) + 2, rows * (cell[1] + 2) + 2), "white")
    for place, picture in enumerate(drawn):
        left, top = place % columns * (cell[0] + 2), place // columns * (cell[1] + 2)
        whole.paste(picture.resize(cell, Image.Resampling.NEAREST), (left + 2, top + 2))
    return whole
