"""An encoder and decoder fused with what a classifier sees in the photo, and the same without.

After "Residual Networks with Application to Image Colorization" (the thesis), whose encoder and
decoder are called `strided` and `thesis` here, and "Image Colorization" on paintings, of which
table 1's encoder and table 3's decoder are called `pooled` and `paintings`; both follow
Baldassarre et al. 2017, "Deep Koalarization".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.classifiers import ResNet34
from colorhub.errors import OptionError
from colorhub.inception import InceptionResNetV2
from colorhub.layers import pad_to_multiple
from colorhub.papers import PAINTINGS, THESIS, Paper

EMBEDDING = 1000  # classes of ImageNet

_Layer: TypeAlias = tuple[float, int, int] | str
_POOL, _UP = "pool", "up"
# (filters as multiples of the width, side of the kernel, stride); at a width of 64 the papers'.
ENCODERS: dict[str, tuple[_Layer, ...]] = {
    "strided": (
        *((1, 3, 2), (2, 3, 1), (2, 3, 2), (4, 3, 1)),
        *((4, 3, 2), (8, 3, 1), (8, 3, 1), (4, 3, 1)),
    ),
    "pooled": (
        *((2, 3, 1), _POOL, (2, 4, 1), (2, 3, 1), _POOL, (4, 4, 1), (4, 3, 1)),
        *(_POOL, (4, 4, 1), (4, 3, 1), (4, 3, 1)),
    ),
}
# Each is followed by a convolution to ab with tanh, and a last doubling of the sides.
DECODERS: dict[str, tuple[_Layer, ...]] = {
    "thesis": ((2, 3, 1), _UP, (1, 3, 1), (1, 3, 1), _UP, (0.5, 3, 1)),
    "paintings": (
        *((2, 3, 1), (1, 3, 1), _UP, (2, 3, 1), _UP),
        *((1, 4, 1), (1, 3, 1), (0.5, 2, 1)),
    ),
}
EXTRACTORS = ("inception_resnet_v2", "resnet34")


class Autoencoder(nn.Module):
    """The thesis's basic CNN: eight convolutions down to an eighth of the sides, five up.

    `width` scales every layer: at 64 the encoder is 64 s2, 128, 128 s2, 256, 256 s2, 512, 512, 256
    and the decoder 128, up, 64, 64, up, 32, 2, up, all 3x3 with ReLU, the last with tanh;
    up-sampling is nearest-neighbour.
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
        self.encoder = _stack(ENCODERS["strided"], 1, config.width)
        self.decoder = _decoder("thesis", config.width)
        _start(self)

    def forward(self, lightness: Tensor) -> Tensor:
        """(N, 1, H, W) in [-1, 1] to ab (N, 2, H, W) in [-1, 1]."""
        height, width = lightness.shape[-2:]
        half = self.decoder(self.encoder(pad_to_multiple(lightness, 8)))
        return F.interpolate(half, scale_factor=2)[:, :, :height, :width]


class Fusion(nn.Module):
    """An encoder and decoder between which every place is told what the whole photo shows.

    A frozen classifier, the `extractor`, sees the photo as a square of `extractor_size` pixels; its
    1000 outputs are repeated over the encoder's maps, and a 1x1 convolution fuses both. (It is
    computed as a convolution of the maps plus a linear layer of the outputs, which is the same.)
    """

    PAPER = replace(
        THESIS, network="a convolutional encoder and decoder told what a classifier sees"
    )
    TAGS = ("autoencoder", "fusion")

    @dataclass(frozen=True)
    class Config:
        resolution: int = 224
        """Pixels of the short side that the network was made for."""
        ab_gain: float = 128.0
        """Lab units that an output of 1 stands for."""
        width: int = 64
        """Channels of the first layer; the others follow."""
        encoder: str = "strided"
        """Strides as in the thesis (strided), or pooling as in table 1 on paintings (pooled)."""
        decoder: str = "thesis"
        """The thesis's (thesis), or table 3's (paintings)."""
        extractor: str = "inception_resnet_v2"
        """The classifier: inception_resnet_v2, or a resnet34 by train/classifier.py."""
        extractor_width: int = 64
        """Channels of a resnet34's first stage."""
        extractor_size: int = 299
        """Pixels of the square that the extractor sees."""
        embedding: str = "softmax"
        """What it gives: its classes' probabilities (softmax), or what is before them (logits)."""
        padding: bool = False
        """Make photos square by white bars at their sides, instead of by stretching."""

        def __post_init__(self) -> None:
            for name, choices in (
                ("encoder", ENCODERS),
                ("decoder", DECODERS),
                ("extractor", EXTRACTORS),
                ("embedding", ("softmax", "logits")),
            ):
                if (given := getattr(self, name)) not in choices:
                    raise OptionError(f"--{name} {given!r}: choose {' or '.join(choices)}.")
            smallest = 75 if self.extractor == "inception_resnet_v2" else 1
            if self.resolution < 1 or min(self.width, self.extractor_width) < 2:
                raise OptionError(f"{self} is no network: give a resolution and widths above 1.")
            if self.extractor_size < smallest:
                raise OptionError(
                    f"--extractor_size is {self.extractor_size}; {self.extractor} needs "
                    f"{smallest} or more."
                )

        @property
        def paper(self) -> Paper:
            """Where this configuration comes from."""
            return PAINTINGS if self.encoder == "pooled" else Fusion.PAPER

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        deep = 4 * config.width
        self.encoder = _stack(ENCODERS[config.encoder], 1, config.width)
        self.fusion = nn.Conv2d(deep, deep, 1)
        self.embedded = nn.Linear(EMBEDDING, deep, bias=False)
        self.decoder = _decoder(config.decoder, config.width)
        _start(self)
        self.extractor: nn.Module
        if config.extractor == "resnet34":
            self.extractor = ResNet34(ResNet34.Config(width=config.extractor_width))
        else:
            self.extractor = InceptionResNetV2()
        self.extractor.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Fusion":
        """As any module; the extractor stays as it is."""
        super().train(mode)
        self.extractor.eval()
        return self

    def forward(self, lightness: Tensor) -> Tensor:
        """(N, 1, H, W) in [-1, 1] to ab (N, 2, H, W) in [-1, 1]."""
        told = self.embedded(self.embed(lightness))
        return self.decode(self.encode(lightness), told, lightness.shape[-2:])

    def encode(self, lightness: Tensor) -> Tensor:
        """(N, 1, H, W) in [-1, 1] to maps (N, 4 * width, H/8, W/8), rounded up."""
        return self.encoder(pad_to_multiple(lightness, 8))

    def decode(self, encoded: Tensor, told: Tensor, size: Sequence[int]) -> Tensor:
        """Maps, fused with what every place is told (N, 4 * width), to ab of a size (H, W)."""
        height, width = size
        half = self.decoder(F.relu(self.fusion(encoded) + told[:, :, None, None]))
        return F.interpolate(half, scale_factor=2)[:, :, :height, :width]

    def embed(self, lightness: Tensor) -> Tensor:
        """(N, 1, H, W) in [-1, 1] to what the extractor sees in it, (N, 1000)."""
        size = self.config.extractor_size
        square: Any = (size, size)
        bars = (0, 0)
        if self.config.padding:
            height, width = lightness.shape[-2:]
            longest = max(height, width)
            square = _scaled(height, size, longest), _scaled(width, size, longest)
            bars = size - square[0], size - square[1]
        view = F.interpolate(lightness, square, mode="bilinear", antialias=True)
        top, left = bars[0] // 2, bars[1] // 2
        view = F.pad(view, (left, bars[1] - left, top, bars[0] - top), value=1.0)
        if self.config.extractor == "inception_resnet_v2":
            view = view.expand(-1, 3, -1, -1)
        logits = self.extractor(view)
        return logits.float().softmax(1) if self.config.embedding == "softmax" else logits


def _scaled(side: int, size: int, longest: int) -> int:
    """round(side * size / longest), 1 or more.

    In whole numbers, for an exported graph has no `round`, and too short floats to tell a half.
    """
    parts, step = 2 * side * size + longest, 2 * longest
    nearest = parts // step
    exactly_between = 1 - min(parts % step, 1)
    return max(1, nearest - exactly_between * (nearest % 2))  # then the even one, as round does


def _stack(layers: tuple[_Layer, ...], channels: int, width: int) -> nn.Sequential:
    """Convolutions with ReLU, poolings and doublings."""
    modules: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, str):
            modules.append(nn.MaxPool2d(2) if layer == _POOL else nn.Upsample(scale_factor=2))
        else:
            multiple, kernel, stride = layer
            filters = int(multiple * width)
            before, after = (kernel - 1) // 2, kernel // 2
            if before != after:  # of an even kernel, as TensorFlow pads
                modules.append(nn.ZeroPad2d((before, after, before, after)))
            padding = before if before == after else 0
            modules += [nn.Conv2d(channels, filters, kernel, stride, padding), nn.ReLU()]
            channels = filters
    return nn.Sequential(*modules)


def _decoder(name: str, width: int) -> nn.Sequential:
    """Maps of an eighth of the sides (N, 4 * width, h, w) to ab of half of them."""
    layers = _stack(DECODERS[name], 4 * width, width)
    return layers.extend([nn.Conv2d(width // 2, 2, 3, padding=1), nn.Tanh()])


def _start(network: nn.Module) -> None:
    """First weights for layers without norms: torch's own would let the signal fade to nothing.

    The last layer begins with little colour, or Adam's first steps at the papers' rate would drive
    its tanh to where no gradient comes back.
    """
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for conv in convs:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        convs[-1].weight.mul_(0.1)
