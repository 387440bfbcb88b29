"""The pix2pix generator, as used by "A Comparative Study of Generative Adversarial Networks"."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.errors import OptionError
from colorhub.layers import BatchNorm2d, Dropout, pad_to_multiple, start_small
from colorhub.papers import OBJECTIVES


class UNet(nn.Module):
    """Strided 4x4 convolutions down to one pixel and up again, layer i joined to layer n - i.

    Channels double from `width` to eight times that; at width 64 and depth 8 it is the network of
    Isola et al. 2017 for 256 pixels. LeakyReLU 0.2 down, ReLU up, tanh at the end; batch norm but
    at the input, the output and the innermost layer. The input's edge is repeated to a multiple of
    2^depth and the output cropped.
    """

    PAPER = OBJECTIVES
    TAGS = ("gan", "pix2pix", "unet")

    @dataclass(frozen=True)
    class Config:
        resolution: int = 256
        """Pixels of the short side that the network was made for."""
        ab_gain: float = 128.0
        """Lab units that an output of 1 stands for."""
        width: int = 64
        """Channels of the first layer."""
        depth: int = 8
        """How often the picture is halved."""
        dropout: float = 0.5
        """Share of values dropped in the first three layers up, the innermost left out."""

        def __post_init__(self) -> None:
            sizes = self.resolution, self.width, self.depth
            if min(sizes) < 1 or not 0 <= self.dropout < 1:
                raise OptionError(
                    f"{self} is no network: resolution, width and depth must be 1 or more, "
                    "dropout in [0, 1)."
                )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * min(2**level, 8) for level in range(config.depth)]
        innermost = config.depth - 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            normed = 0 < level < innermost
            conv = nn.Conv2d(widths[level - 1] if level else 1, width, 4, 2, 1, bias=not normed)
            self.down.append(nn.Sequential(conv, BatchNorm2d(width)) if normed else conv)
        for level in range(innermost, 0, -1):
            wide = widths[level] * (1 if level == innermost else 2)
            dropout = config.dropout if innermost - 3 <= level < innermost else 0.0
            self.up.append(
                nn.Sequential(
                    nn.ConvTranspose2d(wide, widths[level - 1], 4, 2, 1, bias=False),
                    BatchNorm2d(widths[level - 1]),
                    Dropout(dropout),
                )
            )
        self.head = nn.ConvTranspose2d(widths[0] * (2 if innermost else 1), 2, 4, 2, 1)
        start_small(self)

    def forward(self, lightness: Tensor) -> Tensor:
        """(N, 1, H, W) in [-1, 1] to ab (N, 2, H, W) in [-1, 1]."""
        height, width = lightness.shape[-2:]
        x = self.down[0](pad_to_multiple(lightness, 2**self.config.depth))
        skips = []
        for down in self.down[1:]:
            x = F.leaky_relu(x, 0.2, inplace=True)
            skips.append(x)
            x = down(x)
        x = F.relu(x, inplace=True)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            # ReLU before they are joined: a norm's gradient, cut out of the joined one's, would be
            # strided, for which torch's kernel takes many times as long.
            x = torch.cat((F.relu(up(x), inplace=True), F.relu(skip)), dim=1)
        return torch.tanh(self.head(x))[:, :, :height, :width]
