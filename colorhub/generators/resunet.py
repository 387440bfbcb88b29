"""ResU-Net, the generator of "Image Colorization with Conditional WGAN"."""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.errors import OptionError
from colorhub.layers import ACTIVATIONS, ResBlock, pad_to_multiple
from colorhub.papers import CWGAN
from colorhub.ranks import draw_normal


class ResUNet(nn.Module):
    """U-Net of residual blocks with max pooling, dropout and noise at the bottleneck.

    Channels double at each of `depth` levels and are halved on the way up by transposed
    convolutions, each joined with the encoder's map of its level. Where the paper crops the
    encoder's maps to fit, the input's edge is repeated to a multiple of 2^depth and the output
    cropped, so that the output is as large as the input. Noise enters as constant maps beside the
    deepest features.
    """

    PAPER = CWGAN
    TAGS = ("gan", "wgan", "unet")

    @dataclass(frozen=True)
    class Config:
        resolution: int = 224
        """Pixels of the short side that the network was made for."""
        ab_gain: float = 128.0
        """Lab units that an output of 1 stands for."""
        width: int = 64
        """Channels of the first level."""
        depth: int = 4
        """How often the picture is halved."""
        dropout: float = 0.2
        """Share of channels dropped inside the encoder's blocks."""
        activation: str = "relu"
        """What follows each norm: relu as in the paper, or silu or elu, which it leaves open."""
        noise_dim: int = 16
        """Length of the noise vector; 0 switches noise off."""

        def __post_init__(self) -> None:
            if self.activation not in ACTIVATIONS:
                known = ", ".join(ACTIVATIONS)
                raise OptionError(f"--activation {self.activation!r}: choose from {known}.")
            sizes = self.resolution, self.width, self.depth, self.noise_dim + 1
            if min(sizes) < 1 or not 0 <= self.dropout < 1:
                raise OptionError(
                    f"{self} is no network: resolution, width and depth must be 1 or more, "
                    "noise_dim 0 or more, dropout in [0, 1)."
                )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        block = partial(ResBlock, activation=config.activation)
        self.encoder = nn.ModuleList()
        channels = 1
        for width in widths[:-1]:
            self.encoder.append(block(channels, width, dropout=config.dropout))
            channels = width
        self.bottleneck = block(channels + config.noise_dim, widths[-1], dropout=config.dropout)
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True):
            self.up.append(nn.ConvTranspose2d(wide, narrow, 2, stride=2))
            self.decoder.append(block(2 * narrow, narrow))
        self.head = nn.Conv2d(widths[0], 2, 1)

    def forward(self, lightness: Tensor, noise: Tensor | None = None) -> Tensor:
        """(N, 1, H, W) in [-1, 1], and noise (N, noise_dim), to ab (N, 2, H, W) in [-1, 1]."""
        height, width = lightness.shape[-2:]
        x = pad_to_multiple(lightness, 2**self.config.depth)
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        if self.config.noise_dim:
            if noise is None:
                noise = draw_normal(len(x), self.config.noise_dim, like=x)
            maps = noise.to(x)[:, :, None, None].expand(-1, -1, *x.shape[-2:])
            x = torch.cat((x, maps), dim=1)
        x = self.bottleneck(x)
        for up, block, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            x = block(torch.cat((up(x), skip), dim=1))
        return torch.tanh(self.head(x))[:, :, :height, :width]
