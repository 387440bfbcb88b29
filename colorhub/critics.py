"""Networks that judge colour: critic(lightness, ab) -> scores."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from colorhub.errors import OptionError
from colorhub.layers import BatchNorm2d, pad_to_multiple, start_small


@dataclass(frozen=True)
class CriticConfig:
    """How large a critic is."""

    critic_width: int = 64
    """Filters of the critic's first convolution."""
    critic_depth: int = 3
    """How often the critic halves the picture."""

    def __post_init__(self) -> None:
        if self.critic_width < 1 or self.critic_depth < 1:
            raise OptionError(f"{self} is no critic: width and depth must be 1 or more.")


class PatchCritic(nn.Module):
    """PatchGAN (Isola et al. 2017): a score for each patch, 70 pixels wide at the depth of 3.

    4x4 convolutions, `critic_depth` of stride 2 and two of stride 1, with LeakyReLU 0.2 and, but
    for the first and the last, batch norm.
    """

    Config = CriticConfig

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        self.config = config
        widths = [
            config.critic_width * min(2**level, 8) for level in range(config.critic_depth + 1)
        ]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for level, (narrow, wide) in enumerate(pairwise(widths), 1):
            stride = 2 if level < config.critic_depth else 1
            layers += [
                nn.Conv2d(narrow, wide, 4, stride, 1, bias=False),
                BatchNorm2d(wide),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        start_small(self)

    def forward(self, lightness: Tensor, ab: Tensor) -> Tensor:
        """(N, 1, H, W) and (N, 2, H, W), in [-1, 1], to scores (N, 1, h, w), one a patch."""
        return self.layers(torch.cat((lightness, ab), dim=1))


class EnergyCritic(nn.Module):
    """EBGAN's auto-encoder (Zhao et al. 2017): what it cannot reproduce has a high energy.

    The energy is the mean squared error between the picture (lightness and ab) and what comes out
    of as many convolutions up as went down. The encoder is `PatchCritic`'s without its two layers
    of stride 1.
    """

    Config = CriticConfig

    def __init__(self, config: CriticConfig, *, channels: int = 3) -> None:
        super().__init__()
        self.config = config
        widths = [config.critic_width * min(2**level, 8) for level in range(config.critic_depth)]
        encoder: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        decoder: list[nn.Module] = [nn.ConvTranspose2d(widths[0], channels, 4, 2, 1)]
        for narrow, wide in pairwise(widths):
            encoder += [
                nn.Conv2d(narrow, wide, 4, 2, 1, bias=False),
                BatchNorm2d(wide),
                nn.LeakyReLU(0.2),
            ]
            up = nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)
            decoder = [up, BatchNorm2d(narrow), nn.ReLU(), *decoder]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)
        start_small(self)

    def forward(self, lightness: Tensor, ab: Tensor, *, embedding: bool = False) -> Any:
        """(N, 1, H, W) and (N, 2, H, W), in [-1, 1], to energies (N,), 0 or more.

        With `embedding` also the encoder's maps (N, C, h, w), for `objectives.pull_away`.
        """
        return self.judge(torch.cat((lightness, ab), dim=1), embedding=embedding)

    def judge(self, picture: Tensor, *, embedding: bool = False) -> Any:
        """The same of any picture (N, channels, H, W) in [-1, 1]."""
        height, width = picture.shape[-2:]
        maps = self.encoder(pad_to_multiple(picture, 2**self.config.critic_depth))
        again = self.decoder(maps)[:, :, :height, :width]
        energies = (again.float() - picture.float()).square().mean(dim=(1, 2, 3))
        return (energies, maps) if embedding else energies


class ConvCritic(nn.Module):
    """The conditional critic of "Image Colorization with Conditional WGAN".

    Lightness and ab are concatenated, 4x4 convolutions of stride 2 with instance norm and
    LeakyReLU 0.2 halve the sides and double the filters, and average pooling with a linear layer
    gives one unbounded score a photo. The first convolution has no norm, so that a photo's mean
    colour is not lost before the critic has seen it; the others have no bias, which their
    norm would remove. There is no batch norm: the gradient penalty is a photo's own.
    """

    @dataclass(frozen=True)
    class Config(CriticConfig):
        critic_depth: int = 4
        """How often the critic halves the picture."""

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
