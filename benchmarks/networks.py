"""Networks alone, at 256 and 512 pixels, in fp32 and bf16: ours beside two well-known ones.

    python benchmarks/networks.py [--variants natural cwgan]

The others are built here from their papers' layer tables with random weights, for speed does not
depend on them: "ECCV16" of Zhang et al. 2016 (32 M parameters) and the 256-pixel U-Net of pix2pix
(Isola et al. 2017, 54 M). Networks take turns within a round. Figures are of this machine at this
moment; read the ratios.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import tyro
from torch import Tensor, nn

from colorhub import Colorizer
from colorhub.layers import channels_last


@dataclass(frozen=True)
class Config:
    variants: tuple[str, ...] = ("natural", "cwgan", "autoencoder")
    """Variants to time."""
    rounds: int = 10
    """Turns that a figure is the median of, after two to warm up."""
    threads: int = 2
    """Threads for each network."""


def eccv16() -> nn.Module:
    """Eight groups of convolutions down to an eighth of the sides, 313 classes at a quarter."""
    # (channels, convolutions, stride of the last, dilation)
    groups = [(64, 2, 2, 1), (128, 2, 2, 1), (256, 3, 2, 1), (512, 3, 1, 1)]
    groups += [(512, 3, 1, 2), (512, 3, 1, 2), (512, 3, 1, 1)]
    layers: list[nn.Module] = []
    channels = 1
    for width, count, stride, dilation in groups:
        for n in range(count):
            step = stride if n == count - 1 else 1
            layers += [nn.Conv2d(channels, width, 3, step, dilation, dilation), nn.ReLU()]
            channels = width
        layers.append(nn.BatchNorm2d(width))
    layers += [nn.ConvTranspose2d(512, 256, 4, 2, 1), nn.ReLU()]
    layers += [nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU()]
    layers += [nn.Conv2d(256, 313, 1), nn.Softmax(dim=1), nn.Conv2d(313, 2, 1, bias=False)]
    return nn.Sequential(*layers, nn.Upsample(scale_factor=4, mode="bilinear"))


class UNetLevel(nn.Module):
    """4x4 convolutions down and up around an inner level, whose result joins the input."""

    def __init__(self, outer: int, inner: int, inside: nn.Module | None = None) -> None:
        super().__init__()
        self.down = nn.Conv2d(outer, inner, 4, 2, 1)
        self.down_norm = nn.BatchNorm2d(inner) if inside else nn.Identity()
        self.inside = inside
        self.up = nn.ConvTranspose2d(2 * inner if inside else inner, outer, 4, 2, 1)
        self.norm = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down_norm(self.down(torch.nn.functional.leaky_relu(x, 0.2)))
        if self.inside is not None:
            y = self.inside(y)
        return torch.cat((x, self.norm(self.up(torch.relu(y)))), dim=1)


def pix2pix() -> nn.Module:
    """Eight levels of 64 to 512 channels."""
    level: nn.Module | None = None
    for outer, inner in ((512, 512),) * 4 + ((256, 512), (128, 256), (64, 128)):
        level = UNetLevel(outer, inner, level)
    assert level is not None
    last = nn.ConvTranspose2d(128, 2, 4, 2, 1)
    return nn.Sequential(nn.Conv2d(1, 64, 4, 2, 1), level, nn.ReLU(), last, nn.Tanh())


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    networks: dict[str, Callable[[Tensor], Tensor]] = {
        name: Colorizer.from_pretrained(name, device="cpu").generator for name in config.variants
    }
    for name, build in (("ECCV16", eccv16), ("pix2pix U-Net", pix2pix)):
        networks[name] = channels_last(build()).eval()
    columns = [(size, kind) for size in (256, 512) for kind in (torch.float32, torch.bfloat16)]
    seconds: dict[tuple[str, int, torch.dtype], list[float]] = {}
    for _ in range(config.rounds + 2):
        for size, kind in columns:
            lightness = torch.randn(1, 1, size, size).to(memory_format=torch.channels_last)
            for name, network in networks.items():
                start = time.perf_counter()
                with torch.inference_mode(), torch.autocast("cpu", kind, kind != torch.float32):
                    network(lightness)
                seconds.setdefault((name, size, kind), []).append(time.perf_counter() - start)
    heads = [f"{size} px {'fp32' if kind == torch.float32 else 'bf16'}" for size, kind in columns]
    print(f"ms, {config.threads} threads (times the first network's)\n")
    print(f"| network | M parameters | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 2)}")
    first = next(iter(networks))
    for name, network in networks.items():
        assert isinstance(network, nn.Module)
        cells = [f"{sum(weight.numel() for weight in network.parameters()) / 1e6:.1f}"]
        for size, kind in columns:
            own, base = (median(seconds[each, size, kind][2:]) for each in (name, first))
            cells.append(f"{1000 * own:.0f} ({own / base:.1f})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(tyro.cli(Config, use_underscores=True))
