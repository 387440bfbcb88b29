"""Networks that judge colour: critic(lightness, ab) -> scores."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from colorhub.errors import OptionError


class ConvCritic(nn.Module):
    """The conditional critic of "Image Colorization with Conditional WGAN".

    Lightness and ab are concatenated, 4x4 convolutions of stride 2 with instance norm and
    LeakyReLU 0.2 halve the sides and double the filters, and average pooling with a linear layer
    gives one unbounded score a photo. The first convolution has no norm, so that a photo's mean
    colour is not lost before the critic has seen it; the others have no bias, which their
    norm would remove. There is no batch norm: the gradient penalty is a photo's own.
    """

    @dataclass(frozen=True)
    class Config:
        critic_width: int = 64
        """Filters of the critic's first convolution."""
        critic_depth: int = 4
        """How often the critic halves the picture."""

        def __post_init__(self) -> None:
            if self.critic_width < 1 or self.critic_depth < 1:
                raise OptionError(f"{self} is no critic: width and depth must be 1 or more.")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        widths = [config.critic_width * 2**level for level in range(config.critic_depth)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for narrow, wide in pairwise(widths):
            layers += [
                nn.Conv2d(narrow, wide, 4, 2, 1, bias=False),
                nn.InstanceNorm2d(wide, affine=True),
                nn.LeakyReLU(0.2),
            ]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, lightness: Tensor, ab: Tensor) -> Tensor:
        """(N, 1, H, W) and (N, 2, H, W), in [-1, 1], to scores (N, 1)."""
        return self.layers(torch.cat((lightness, ab), dim=1))
