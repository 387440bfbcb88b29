"""Colours of a network's size brought to a photo's by three convolutions that know its lightness.

    python benchmarks/upsampler.py --dataset_name data/photos --output upsampler.safetensors
    python benchmarks/upsampling.py --dataset_name data/photos --learned upsampler.safetensors

The photo's lightness is known in full. Inside of a small cell the colours follow it as a straight
line, of which this tiny network guesses the slope from the small picture alone:

    ab = up(colors) + up(slopes) * (L - up(lightness))

`up` is the bicubic enlargement, the only thing done at full size besides one product. It is taught
by photos whose colours are known; what it brings is in docs/upsampling.md.

Colours and lightness are averaged over cells of 2 x 2 to 16 x 16 pixels, and what the network
brings to full size is compared with the photo's own. Each photo counts by the root of its mean
squared error, so that colourful ones do not outweigh the others. On a processor the same seed,
threads and torch give the same weights.
"""

import functools
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from safetensors.torch import save_file
from torch import Tensor, nn

from colorhub.color import rgb_to_lab
from colorhub.data import open_rows
from colorhub.photos import open_photo

FEATURES = 5  # channels that the network sees, see `_features`
FACTORS = (2, 16)
CROP = 240  # pixels kept of a photo's sides, in memory


@dataclass(frozen=True)
class Config:
    dataset_name: str
    """Hub id or local folder of the photos to learn from."""
    output: Path
    """Where the weights go, in fp16."""
    split: str = "train"
    """Split to learn from."""
    steps: int = 6_000
    """Steps, each with cells of one size."""
    batch_size: int = 8
    """Photos a step."""
    resolution: int = 192
    """Side of the crops of a step, in pixels."""
    learning_rate: float = 4e-3
    """Highest learning rate of one cycle."""
    softness: float = 1.0
    """How much softer than true ones colours are at most, 1 for never; half of all steps see
    true ones."""
    seed: int = 0
    """Of weights and crops."""
    threads: int = 1
    """Threads of torch."""


class Sharpener(nn.Module):
    """What to enlarge in the place of ab: three convolutions at the network's size."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        options: dict[str, Any] = {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"}
        last = nn.Conv2d(width, 4, **options)
        for weight in last.parameters():
            nn.init.zeros_(weight)  # it begins as the bicubic enlargement
        self.layers = nn.Sequential(
            nn.Conv2d(FEATURES, width, **options),
            nn.ReLU(),
            nn.Conv2d(width, width, **options),
            nn.ReLU(),
            last,
        )

    def forward(self, ab: Tensor, lightness: Tensor) -> Tensor:
        """ab (N, 2, h, w) and L (N, 1, h, w) in Lab units to what `apply` takes: (N, 5, h, w).

        These are the colours (2), their slopes (2), in units of ab for each of L, and L itself.
        """
        shift, slopes = self.layers(_features(ab, lightness)).split(2, dim=1)
        return torch.cat((ab + 8 * shift, slopes, lightness), dim=1)


def apply(enlarged: Tensor, lightness: Tensor) -> Tensor:
    """ab (N, 2, H, W) of what `Sharpener` gave, enlarged to (N, 5, H, W), and the photo's own L.

    Works on any strip of a photo as well: nothing looks at its neighbours.
    """
    colors, slopes, smooth = enlarged.split((2, 2, 1), dim=1)
    return torch.addcmul(colors, slopes, lightness - smooth)


def _features(ab: Tensor, lightness: Tensor) -> Tensor:
    """What the network sees, about 1 in size: L, ab, and the slopes that a mere shadow has."""
    return torch.cat((lightness / 50 - 1, ab / 32, ab / (lightness + 16)), dim=1)


def crops(config: Config, source: random.Random) -> np.ndarray:
    """uint8 (N, CROP, CROP, 3): a square of each photo that has one."""
    squares = []
    for row in open_rows(config.dataset_name, split=config.split):
        photo = open_photo(row["image"]["bytes"])
        if min(photo.size) >= CROP:
            left, top = (source.randint(0, side - CROP) for side in photo.size)
            square = photo.crop((left, top, left + CROP, top + CROP))
            squares.append(np.asarray(square.convert("RGB")))
    return np.stack(squares)


def draw(squares: np.ndarray, config: Config, source: random.Random) -> tuple[Tensor, int]:
    """Lab of a batch (N, 3, S, S), and the side of the cells, of which S is a multiple."""
    low, high = FACTORS
    factor = round(low * (high / low) ** source.random())
    side = config.resolution // factor * factor
    left, top = source.randint(0, CROP - side), source.randint(0, CROP - side)
    chosen = sorted(source.sample(range(len(squares)), config.batch_size))
    batch = torch.from_numpy(squares[chosen, top : top + side, left : left + side])
    if source.random() < 0.5:
        batch = batch.flip(2)
    return rgb_to_lab(batch.permute(0, 3, 1, 2).contiguous() / 255), factor


def soften(ab: Tensor, scale: float) -> Tensor:
    """ab as from a network that decides for cells `scale` times as wide."""
    size = [max(1, round(side / scale)) for side in ab.shape[2:]]
    small = F.interpolate(ab, size, mode="bilinear", antialias=True)
    return F.interpolate(small, ab.shape[2:], mode="bilinear")


@functools.cache
def bicubic(small: int, large: int) -> Tensor:
    """Weights (large, small) of a bicubic enlargement along one axis."""
    pulses = torch.eye(small)[None, None]
    return F.interpolate(pulses, size=(small, large), mode="bicubic")[0, 0].T.contiguous()


def loss_of(network: Sharpener, lab: Tensor, factor: int, softness: float) -> Tensor:
    """Root of the mean squared error of ab by photo, averaged; Lab units."""
    # Predicted colours are paler than true ones: the network is to know both.
    strength = torch.empty(len(lab), 1, 1, 1).uniform_(0.4, 1.1)
    ab = lab[:, 1:] * strength
    small = F.avg_pool2d(torch.cat((ab, lab[:, :1]), dim=1), factor)
    maps = network(soften(small[:, :2], softness), small[:, 2:])
    down, across = (bicubic(side, side * factor) for side in maps.shape[2:])
    large = down @ maps @ across.T  # several times faster than `interpolate` and its gradient
    error = (apply(large, lab[:, :1]) - ab) / strength
    return (error.square().flatten(1).mean(dim=1) + 0.5).sqrt().mean()


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    source = random.Random(config.seed)
    squares = crops(config, source)
    network = Sharpener()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps
    )
    count = sum(weight.numel() for weight in network.parameters())
    print(f"{len(squares)} photos, {count} weights")
    start, total = time.perf_counter(), 0.0
    for step in range(1, config.steps + 1):
        softness = 1 + max(0.0, source.uniform(1 - config.softness, config.softness - 1))
        loss = loss_of(network, *draw(squares, config, source), softness)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 500 == 0:
            minutes = (time.perf_counter() - start) / 60
            print(f"step {step}: loss {total / 500:.3f}, {minutes:.1f} min", flush=True)
            total = 0.0
    halves = {name: weight.half() for name, weight in network.state_dict().items()}
    save_file(halves, config.output, metadata={"format": "pt"})


if __name__ == "__main__":
    main(tyro.cli(Config, use_underscores=True))
