"""The generator of `natural`: a MobileNet that sees grey, and a decoder that paints it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub import encoders, palette
from colorhub.encoders import Encoder
from colorhub.errors import OptionError
from colorhub.layers import BatchNorm2d, pad_to_multiple
from colorhub.papers import NATURAL

SPREAD_UNIT = 10.0  # Lab units in which a pixel's own variance is learned: about its size
_HEADS = ("regression", "classification")


class MobileUNet(nn.Module):
    """A pretrained encoder of 2 to 3 M parameters and a U-Net decoder up to half the sides.

    With the regression head a photo's colours are a Gaussian over the whole picture: a mean, and
    `noise_dim` maps along which it may shift as a whole, each a coherent change of many pixels
    (the low-rank covariance of Monteiro et al., "Stochastic Segmentation Networks", 2020), beside
    a spread of each pixel's own. Noise weighs the maps; zero noise gives the mean. With the
    classification head each pixel has a distribution over quantised colours, of which the output
    is the annealed mean (Zhang et al. 2016).
    """

    PAPER = NATURAL
    TAGS = ("unet", "mobilenet")
    ZERO_NOISE_IS_BEST = True
    TEMPERATURE = 0.12  # of the noise that seeds draw: at 1 the learned shifts are far too large

    @dataclass(frozen=True)
    class Config:
        resolution: int = 256
        """Pixels of the short side that the network was made for."""
        ab_gain: float = 110.0
        """Lab units that an output of 1 stands for."""
        encoder: str = "mobilenet_v2_100"
        """mobilenet_v2_100 or mobilenet_edgetpu_075."""
        width: int = 48
        """Channels of the decoder's last level; those before have 2, 3 and 4 times as many."""
        head: str = "regression"
        """regression, or classification over quantised colours."""
        queries: int = 0
        """Colour queries that read the decoder's maps (DDColor, Kang et al. 2023); 0 for none."""
        noise_dim: int = 8
        """Directions in which the colouring may vary; 0 for one colouring only."""

        def __post_init__(self) -> None:
            if self.encoder not in encoders.NAMES or self.head not in _HEADS:
                raise OptionError(
                    f"encoder is {self.encoder!r} and head {self.head!r}: choose from "
                    f"{', '.join(encoders.NAMES)}; {', '.join(_HEADS)}."
                )
            if self.head == "classification" and self.noise_dim:
                raise OptionError("The classification head takes no noise: give --noise_dim 0.")
            if min(self.resolution, self.width, self.queries + 1, self.noise_dim + 1) < 1:
                raise OptionError(
                    f"{self} is no network: resolution and width must be 1 or more, queries and "
                    "noise_dim 0 or more."
                )
            if self.queries and self.width % 2:
                raise OptionError(f"width is {self.width}; with queries it must be even.")

        @property
        def tells_uncertainty(self) -> bool:
            """Whether the network predicts a distribution of colours."""
            return self.noise_dim > 0 or self.head == "classification"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        *skips, channels = self.encoder.channels
        self.decoder = nn.ModuleList()
        for skip, times in zip(reversed(skips), (4, 3, 2, 1), strict=True):
            self.decoder.append(_Level(channels + skip, times * config.width))
            channels = times * config.width
        if config.queries:
            self.queries = _Queries(config.queries, config.width)
            channels += config.queries
        if config.head == "classification":
            self.classes = nn.Conv2d(channels, len(palette.colours()), 1)
        else:
            self.mean = nn.Conv2d(channels, 2, 1)
        if config.noise_dim:
            self.shifts = nn.Conv2d(channels, 2 * config.noise_dim, 1)
            self.spread = nn.Conv2d(channels, 2, 1)

    def features(self, lightness: Tensor) -> Tensor:
        """The decoder's last maps, of half the padded sides."""
        *skips, x = self.encoder(pad_to_multiple(lightness, 32))
        levels = []
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(torch.cat((F.interpolate(x, scale_factor=2), skip), dim=1))
            levels.append(x)
        if self.config.queries:
            x = torch.cat((x, self.queries(levels)), dim=1)
        return x

    def forward(
        self, lightness: Tensor, noise: Tensor | None = None, *, parts: bool = False
    ) -> Tensor | tuple[Tensor, ...]:
        """(N, 1, H, W) in [-1, 1], and noise (N, noise_dim), to ab (N, 2, H, W) in [-1, 1].

        Without noise the mean. `parts` gives what is trained instead: the mean (N, 2, H, W), and
        of half (padded) size the mean again, the shifts (N, noise_dim, 2, h, w) and the logarithm
        of each pixel's own variance (N, 2, h, w) in `SPREAD_UNIT`s; or,
        of the classification head, ab and the logits (N, Q, h, w) of a quarter of the size.
        """
        x = self.features(lightness)
        if self.config.head == "classification":
            logits = self.classes(F.avg_pool2d(x, 2))
            ab = palette.annealed_mean(logits) / self.config.ab_gain
            ab = self._enlarge(ab, lightness)
            return (ab, logits) if parts else ab.clamp(-1, 1)
        mean = self.mean(x)
        if parts:
            if not self.config.noise_dim:
                return (self._enlarge(mean, lightness),)
            shifts = self.shifts(x).unflatten(1, (-1, 2))
            return self._enlarge(mean, lightness), mean, shifts, self.spread(x)
        if noise is not None and self.config.noise_dim:
            shifts = self.shifts(x).unflatten(1, (-1, 2))
            mean = mean + torch.einsum("nk,nkchw->nchw", noise.to(x.dtype), shifts)
        return self._enlarge(mean, lightness).clamp(-1, 1)

    def uncertainty(self, lightness: Tensor) -> Tensor:
        """(N, 1, H, W) in [-1, 1] to each pixel's standard deviation of ab (N, 1, H, W).

        In units of the output, both channels together. To be asked only of a network whose
        configuration `tells_uncertainty`.
        """
        x = self.features(lightness)
        if self.config.head == "classification":
            shares = F.softmax(self.classes(F.avg_pool2d(x, 2)).float(), dim=1)
            colours = palette.colours().to(x.device) / self.config.ab_gain
            mean = torch.einsum("nqhw,qc->nchw", shares, colours)
            square = torch.einsum("nqhw,q->nhw", shares, colours.square().sum(1))
            variance = square[:, None] - mean.square().sum(1, keepdim=True)
        else:
            own = self.spread(x).float().clamp(-10, 10).exp()
            own = own * (SPREAD_UNIT / self.config.ab_gain) ** 2
            together = self.shifts(x).float().unflatten(1, (-1, 2)).square().sum(1)
            variance = (own + together).sum(1, keepdim=True)
        return self._enlarge(variance.clamp(min=0).sqrt(), lightness)

    def _enlarge(self, ab: Tensor, lightness: Tensor) -> Tensor:
        height, width = lightness.shape[-2:]
        factor = -(-height // 32) * 32 // ab.shape[-2]
        ab = F.interpolate(ab.float(), scale_factor=factor, mode="bilinear")
        return ab[:, :, :height, :width]


class _Level(nn.Sequential):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            BatchNorm2d(channels_out),
            nn.ReLU(),
        )


class _Queries(nn.Module):
    """Learned queries that gather colour from the two deepest levels, and maps of where each is.

    After the colour decoder of "DDColor" (Kang et al. 2023), with one layer for each level.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        size = 2 * width
        self.queries = nn.Parameter(torch.randn(1, count, size) * 0.02)
        self.narrow = nn.ModuleList(nn.Linear(times * width, size) for times in (4, 3))
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(size, 4, 2 * size, dropout=0.0, batch_first=True)
            for _ in self.narrow
        )
        self.key = nn.Linear(size, width)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """The decoder's maps, the deepest first, to (N, count, H, W) of the last one's size."""
        queries = self.queries.expand(len(levels[0]), -1, -1)
        for narrow, layer, x in zip(self.narrow, self.layers, levels, strict=False):
            queries = layer(queries, narrow(x.flatten(2).transpose(1, 2)))
        return torch.einsum("nqc,nchw->nqhw", self.key(queries), levels[-1])
