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

_HEADS = ("regression", "classification")


class MobileUNet(nn.Module):
    """A pretrained encoder of 1.5 or 1.8 M parameters and a U-Net decoder up to half the sides.

    With the regression head it predicts a photo's likeliest colours, how far off each pixel may be
    (the scale of a Laplace distribution around them), and `alternatives`: other colourings of the
    whole picture, learned as several guesses of which the nearest counts (Rupprecht et al.,
    "Learning in an Uncertain World", 2017). With the classification head each pixel has a
    distribution over quantised colours, of which the output is the annealed mean (Zhang et al.
    2016).
    """

    PAPER = NATURAL
    TAGS = ("unet", "mobilenet")

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
        queries: int = 32
        """Colour queries that read the decoder's maps (DDColor, Kang et al. 2023); 0 for none."""
        saturation: float = 1.1
        """What the regression's likeliest colours, not the alternatives, are multiplied by: alone
        it paints too little."""
        alternatives: int = 7
        """Colourings beside the likeliest; 0 for that one only, and no uncertainty."""

        def __post_init__(self) -> None:
            if self.encoder not in encoders.NAMES or self.head not in _HEADS:
                raise OptionError(
                    f"encoder is {self.encoder!r} and head {self.head!r}: choose from "
                    f"{', '.join(encoders.NAMES)}; {', '.join(_HEADS)}."
                )
            if self.head == "classification" and self.alternatives:
                raise OptionError("The classification head has no --alternatives: give 0.")
            if min(self.resolution, self.width, self.queries + 1, self.alternatives + 1) < 1:
                raise OptionError(
                    f"{self} is no network: resolution and width must be 1 or more, queries and "
                    "alternatives 0 or more."
                )
            if not self.saturation > 0:
                raise OptionError(f"saturation is {self.saturation}; it must be above 0.")
            if self.queries and self.width % 2:
                raise OptionError(f"width is {self.width}; with queries it must be even.")

        @property
        def tells_uncertainty(self) -> bool:
            """Whether the network predicts a distribution of colours."""
            return self.alternatives > 0 or self.head == "classification"

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
        if config.alternatives:
            self.shifts = nn.Conv2d(channels, 2 * config.alternatives, 1)
            self.scale = nn.Conv2d(channels, 1, 1)

    def features(self, lightness: Tensor) -> tuple[list[Tensor], Tensor]:
        """The encoder's maps, and the decoder's last ones, of half the padded sides."""
        maps = self.encoder(pad_to_multiple(lightness, 32))
        *skips, x = maps
        levels = []
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(torch.cat((F.interpolate(x, scale_factor=2), skip), dim=1))
            levels.append(x)
        if self.config.queries:
            x = torch.cat((x, self.queries(levels)), dim=1)
        return maps, x

    def forward(
        self, lightness: Tensor, choice: int = 0, *, parts: bool = False
    ) -> Tensor | tuple[Tensor, ...]:
        """(N, 1, H, W) in [-1, 1] to ab (N, 2, H, W) in [-1, 1].

        `choice` 0 gives the likeliest colours, 1 to `alternatives` the others. `parts` gives what
        is trained instead: the encoder's two deepest maps, the likeliest ab (N, 2, H, W), and of
        half (padded) size the same again, what to add to it for each alternative (N, alternatives,
        2, h, w), and the logarithm of each pixel's scale (N, 1, h, w), in units of ab; or, of the
        classification head, those maps, ab and the logits (N, Q, h, w) of a quarter of the size.
        """
        maps, x = self.features(lightness)
        if self.config.head == "classification":
            logits = self.classes(F.avg_pool2d(x, 2))
            ab = palette.annealed_mean(logits) / self.config.ab_gain
            ab = self._enlarge(ab, lightness)
            return (*maps[-2:], ab, logits) if parts else ab.clamp(-1, 1)
        mean = self.mean(x)
        if parts:
            if not self.config.alternatives:
                return *maps[-2:], self._enlarge(mean, lightness)
            shifts = self.shifts(x).unflatten(1, (-1, 2))
            return *maps[-2:], self._enlarge(mean, lightness), mean, shifts, self._log_scale(x)
        if choice:
            ab = mean + self.shifts(x).unflatten(1, (-1, 2))[:, choice - 1]
        else:
            ab = mean * self.config.saturation
        return self._enlarge(ab, lightness).clamp(-1, 1)

    def uncertainty(self, lightness: Tensor) -> Tensor:
        """(N, 1, H, W) in [-1, 1] to each pixel's standard deviation of ab (N, 1, H, W).

        In units of the output, both channels together. To be asked only of a network whose
        configuration `tells_uncertainty`.
        """
        _, x = self.features(lightness)
        if self.config.head == "classification":
            shares = F.softmax(self.classes(F.avg_pool2d(x, 2)).float(), dim=1)
            colours = palette.colours().to(x.device) / self.config.ab_gain
            mean = torch.einsum("nqhw,qc->nchw", shares, colours)
            square = torch.einsum("nqhw,q->nhw", shares, colours.square().sum(1))
            variance = square[:, None] - mean.square().sum(1, keepdim=True)
            return self._enlarge(variance.clamp(min=0).sqrt(), lightness)
        # Of the mean as it was learned, and what more saturation than that may be off.
        more = (self.config.saturation - 1) * self.mean(x).float().norm(dim=1, keepdim=True)
        return self._enlarge(torch.hypot(6**0.5 * self._log_scale(x).exp(), more), lightness)

    def _log_scale(self, x: Tensor) -> Tensor:
        return self.scale(x).float().clamp(-4.7, 2)  # 1 Lab unit or more, and finite

    def _enlarge(self, ab: Tensor, lightness: Tensor) -> Tensor:
        height, width = lightness.shape[-2:]
        # A number, not a quotient of sides: an exported graph knows sides only when it runs.
        factor = 4 if self.config.head == "classification" else 2
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
        self.queries = nn.Parameter(nn.init.normal_(torch.empty(1, count, size), std=0.02))
        self.narrow = nn.ModuleList(nn.Linear(times * width, size) for times in (4, 3))
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(size, 4, 2 * size, dropout=0.0, batch_first=True)
            for _ in self.narrow
        )
        self.key = nn.Linear(size, width)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """The decoder's maps, the deepest first, to (N, count, H, W) of the last one's size."""
        queries = self.queries.expand(levels[0].shape[0], -1, -1)
        for narrow, layer, x in zip(self.narrow, self.layers, levels, strict=False):
            queries = layer(queries, narrow(x.flatten(2).transpose(1, 2)))
        return torch.einsum("nqc,nchw->nqhw", self.key(queries), levels[-1])
