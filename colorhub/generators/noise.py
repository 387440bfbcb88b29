"""Pictures from random numbers: the groundwork of "A Comparative Study of Generative Adversarial
Networks", before it turns to colour."""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from colorhub.errors import OptionError
from colorhub.layers import BatchNorm2d, start_small
from colorhub.papers import OBJECTIVES

_SMALLEST, _LARGEST = 4, 8  # pixels of the side at which convolutions begin


@dataclass(frozen=True)
class NoiseConfig:
    """What a generator draws, and how large it is."""

    resolution: int = 64
    """Pixels of a picture's side."""
    channels: int = 3
    """3 draws in colour, 1 in grey."""
    noise_dim: int = 100
    """Length of the noise vector."""
    width: int = 64
    """Channels of the last hidden map of dcgan; of mlp a quarter of the first hidden layer."""

    def __post_init__(self) -> None:
        if min(self.resolution, self.noise_dim, self.width) < 1:
            raise OptionError(
                f"{self} is no network: resolution, noise_dim and width must be 1 or more."
            )
        if self.channels not in (1, 3):
            raise OptionError(f"--channels is {self.channels}; it must be 1 (grey) or 3 (colour).")


def halvings(resolution: int) -> tuple[int, int]:
    """(how often a side is halved, pixels that are left), down to 4 to 8 pixels.

    Raises OptionError for a side that cannot be halved so far.
    """
    times, side = 0, resolution
    while side % 2 == 0 and side // 2 >= _SMALLEST:
        times, side = times + 1, side // 2
    if not times or side > _LARGEST:
        raise OptionError(
            f"--resolution {resolution} cannot be halved down to {_SMALLEST} to {_LARGEST} pixels, "
            "as dcgan needs: give 28, 32, 64 or 128."
        )
    return times, side


class MLPGenerator(nn.Module):
    """Four linear layers with ReLU, the last with tanh (Goodfellow et al. 2014).

    Between them is batch norm, which the paper of 2014 could not know: without it all pictures were
    one within three epochs of digits. Layers are 1x1 convolutions of maps of one pixel.
    """

    PAPER = replace(OBJECTIVES, network="a multilayer perceptron trained against another")
    TAGS = ("gan",)
    Config = NoiseConfig

    def __init__(self, config: NoiseConfig) -> None:
        super().__init__()
        self.config = config
        sizes = [config.noise_dim, *(config.width * factor for factor in (4, 8, 16))]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Conv2d(before, after, 1, bias=False), BatchNorm2d(after), nn.ReLU()]
        pixels = config.channels * config.resolution**2
        self.layers = nn.Sequential(*layers, nn.Conv2d(sizes[-1], pixels, 1))

    def forward(self, noise: Tensor) -> Tensor:
        """(N, noise_dim), standard normal, to pictures (N, C, R, R) in [-1, 1]."""
        shape = self.config.channels, self.config.resolution, self.config.resolution
        return torch.tanh(self.layers(noise[:, :, None, None])).view(-1, *shape)


class DCGANGenerator(nn.Module):
    """Fractionally strided convolutions with batch norm and ReLU, the last with tanh (Radford et
    al. 2016).

    Noise becomes maps of 4 to 8 pixels, each further 4x4 convolution doubles their sides and halves
    their channels, of which there are at most eight times `width`.
    """

    PAPER = replace(OBJECTIVES, network="a DCGAN")
    TAGS = ("gan", "dcgan")
    Config = NoiseConfig

    def __init__(self, config: NoiseConfig) -> None:
        super().__init__()
        self.config = config
        times, side = halvings(config.resolution)
        widths = [config.width * min(2**level, 8) for level in reversed(range(times))]
        layers = [nn.ConvTranspose2d(config.noise_dim, widths[0], side, 1, 0, bias=False)]
        layers += [
            nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)
            for wide, narrow in pairwise(widths)
        ]
        hidden: list[nn.Module] = []
        for layer in layers:
            hidden += [layer, BatchNorm2d(layer.out_channels), nn.ReLU()]
        last = nn.ConvTranspose2d(widths[-1], config.channels, 4, 2, 1)
        self.layers = nn.Sequential(*hidden, last)
        start_small(self)

    def forward(self, noise: Tensor) -> Tensor:
        """(N, noise_dim), standard normal, to pictures (N, C, R, R) in [-1, 1]."""
        return torch.tanh(self.layers(noise[:, :, None, None]))
