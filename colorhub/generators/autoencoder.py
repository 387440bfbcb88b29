"""The basic CNN of a thesis on residual networks: encoder and decoder without features."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.errors import OptionError
from colorhub.layers import pad_to_multiple
from colorhub.papers import THESIS


class Autoencoder(nn.Module):
    """Eight convolutions down to an eighth of the sides, five up, nearest-neighbour up-sampling.

    The thesis's fusion model without the fused features. `width` scales every layer: at 64 the
    encoder is 64 s2, 128, 128 s2, 256, 256 s2, 512, 512, 256 and the decoder 128, up, 64, 64, up,
    32, 2, up, all 3x3 with ReLU, the last with tanh.
    """

    PAPER = THESIS
    TAGS = ("autoencoder",)

    @dataclass(frozen=True)
    class Config:
        resolution: int = 224
        """Pixels of the short side that the network was made for."""
        ab_gain: float = 128.0
        """Lab units that an output of 1 stands for."""
        width: int = 64
        """Channels of the first layer; the others follow."""

        def __post_init__(self) -> None:
            if self.resolution < 1 or self.width < 2:
                raise OptionError(f"{self} is no network: give a resolution and a width above 1.")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        w = config.width
        encoder = [(w, 2), (2 * w, 1), (2 * w, 2), (4 * w, 1)]
        encoder += [(4 * w, 2), (8 * w, 1), (8 * w, 1), (4 * w, 1)]
        layers: list[nn.Module] = []
        channels = 1
        for width, stride in encoder:
            layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.ReLU()]
            channels = width
        self.encoder = nn.Sequential(*layers)
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 2 * w, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * w, w, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(w, w, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(w, w // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(w // 2, 2, 3, padding=1),
            nn.Tanh(),
        )
        # Thirteen layers without norms: torch's own start would let the signal fade to nothing.
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                module.bias.data.zero_()

    def forward(self, lightness: Tensor) -> Tensor:
        """(N, 1, H, W) in [-1, 1] to ab (N, 2, H, W) in [-1, 1]."""
        height, width = lightness.shape[-2:]
        half = self.decoder(self.encoder(pad_to_multiple(lightness, 8)))
        return F.interpolate(half, scale_factor=2)[:, :, :height, :width]
