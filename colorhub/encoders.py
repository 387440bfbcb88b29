"""Small encoders that others have trained on ImageNet, to start from: MobileNets without norms.

Their batch norm is folded into the convolutions when weights are loaded, so an encoder is
convolutions, activations and shortcuts alone: fast on a CPU, and the same whatever the batch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.errors import OptionError


@dataclass(frozen=True)
class _Group:
    """Blocks in a row that share a size: the first changes channels, the others add to them."""

    blocks: int
    channels: int
    expanded: tuple[int, int]  # channels inside the first block and inside the others
    kernel: int = 3
    stride: int = 1
    depthwise: bool = True


# Stem, then one tuple of groups for each further halving of the picture.
_LAYOUTS: dict[str, tuple[tuple[int, bool], list[list[_Group]]]] = {
    # Sandler et al. 2018, table 2; the stem's block has a depthwise convolution.
    "mobilenet_v2_100": (
        (32, True),
        [
            [_Group(2, 24, (96, 144), stride=2)],
            [_Group(3, 32, (144, 192), stride=2)],
            [_Group(4, 64, (192, 384), stride=2), _Group(3, 96, (384, 576))],
            [_Group(3, 160, (576, 960), stride=2), _Group(1, 320, (960, 960))],
        ],
    ),
    # The network that Google published for the Edge TPU, three quarters as wide: full
    # convolutions where the picture is large, which CPUs run faster than depthwise ones.
    "mobilenet_edgetpu_075": (
        (24, False),
        [
            [_Group(4, 24, (128, 96), stride=2, depthwise=False)],
            [_Group(4, 40, (192, 160), stride=2, depthwise=False)],
            [_Group(4, 72, (320, 288), stride=2), _Group(4, 72, (576, 288))],
            [_Group(4, 120, (576, 480), kernel=5, stride=2), _Group(1, 144, (960, 960))],
        ],
    ),
}
NAMES = tuple(_LAYOUTS)
_STEM_OUT = 16
# What ImageNet's photos are normalised by in timm's checkpoints.
_MEAN, _STD = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))


class _Block(nn.Module):
    """Expand, look around, project; `residual` adds the input."""

    def __init__(self, channels: int, group: _Group, *, first: bool, cap: float) -> None:
        super().__init__()
        wide = group.expanded[not first]
        stride = group.stride if first else 1
        size, padding = group.kernel, group.kernel // 2
        if group.depthwise:
            self.convs = nn.ModuleList(
                [
                    nn.Conv2d(channels, wide, 1),
                    nn.Conv2d(wide, wide, size, stride, padding, groups=wide),
                    nn.Conv2d(wide, group.channels, 1),
                ]
            )
        else:
            self.convs = nn.ModuleList(
                [
                    nn.Conv2d(channels, wide, size, stride, padding),
                    nn.Conv2d(wide, group.channels, 1),
                ]
            )
        self.residual = not first
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.convs[:-1]:
            y = _relu(_convolve(conv, y), self.cap)
        y = self.convs[-1](y)
        return x + y if self.residual else y


class Encoder(nn.Module):
    """A MobileNet without classifier: pictures to feature maps of 1/2, 1/4, 1/8, 1/16, 1/32.

    `name` is one of `NAMES`, `inputs` is 1 for grey or 3 for RGB, both in [-1, 1]. `channels` are
    those of the five maps.
    """

    def __init__(self, name: str, *, inputs: int = 1) -> None:
        super().__init__()
        if name not in _LAYOUTS:
            raise OptionError(f"Unknown encoder {name!r}: choose from {', '.join(NAMES)}.")
        (width, depthwise), stages = _LAYOUTS[name]
        self.cap = 6.0 if name == "mobilenet_v2_100" else float("inf")
        stem = [nn.Conv2d(inputs, width, 3, 2, 1)]
        if depthwise:
            stem.append(nn.Conv2d(width, width, 3, 1, 1, groups=width))
        self.stem = nn.ModuleList([*stem, nn.Conv2d(width, _STEM_OUT, 1)])
        self.stages = nn.ModuleList()
        self.channels = [_STEM_OUT]
        channels = _STEM_OUT
        for groups in stages:
            blocks = []
            for group in groups:
                for n in range(group.blocks):
                    blocks.append(_Block(channels, group, first=n == 0, cap=self.cap))
                    channels = group.channels
            self.stages.append(nn.Sequential(*blocks))
            self.channels.append(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, inputs, H, W), H and W multiples of 32, to five maps, the largest first."""
        for conv in self.stem[:-1]:
            x = _relu(conv(x), self.cap)
        maps = [self.stem[-1](x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps

    def load_backbone(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of a published classifier, whose last layers are left out.

        `tensors` are timm's (convolutions and batch norms by its names, for photos normalised by
        ImageNet's mean), or convolutions with their norms folded already, named layer00.weight,
        layer00.bias and on in the order of the network, for photos in [-1, 1]. A grey encoder's
        first convolution is the sum over the channels. Raises OptionError if they do not fit.
        """
        folded = _folded(tensors)
        own = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        if len(folded) < len(own):
            raise OptionError(
                f"The backbone has {len(folded)} layers, this network {len(own)}: the "
                "weights are of another network than the one that is named."
            )
        weight, bias = folded[0]
        if own[0].in_channels == 1:
            folded[0] = weight.sum(1, keepdim=True), bias
        _take(own, folded)


class Teacher(nn.Module):
    """A MobileNet with its classifier: RGB (N, 3, H, W) in [-1, 1], H and W multiples of 32, to
    the logits of ImageNet's classes (N, 1000)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.encoder = Encoder(name, inputs=3)
        self.last = nn.Conv2d(self.encoder.channels[-1], 1280, 1)
        self.classes = nn.Conv2d(1280, 1000, 1)

    def forward(self, rgb: Tensor) -> Tensor:
        x = _relu(self.last(self.encoder(rgb)[-1]), self.encoder.cap)
        return self.classes(x.mean((2, 3), keepdim=True)).flatten(1)

    def load_backbone(self, tensors: Mapping[str, Tensor]) -> None:
        """As `Encoder.load_backbone`, with the classifier's two layers at the end."""
        self.encoder.load_backbone(tensors)
        own = [self.last, self.classes]
        rest = _folded(tensors)[-2:]
        if rest[1][0].shape[:1] != (1000,):
            raise OptionError("The backbone has no classifier: a teacher needs its logits.")
        _take(own, rest)


def _folded(tensors: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    return _folded_timm(tensors) if "conv_stem.weight" in tensors else _in_order(tensors)


@torch.no_grad()
def _take(own: list[nn.Conv2d], folded: list[tuple[Tensor, Tensor]]) -> None:
    for n, (conv, (weight, bias)) in enumerate(zip(own, folded, strict=False)):
        if conv.weight.shape != weight.shape or conv.bias is None:
            raise OptionError(
                f"The backbone's layer {n} has the shape {tuple(weight.shape)}, this "
                f"network's {tuple(conv.weight.shape)}: the weights are of another network than "
                "the one that is named."
            )
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)


def _convolve(conv: nn.Module, x: Tensor) -> Tensor:
    strided = isinstance(conv, nn.Conv2d) and conv.groups > 1 and conv.stride != (1, 1)
    on_cpu = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if strided and on_cpu and torch.is_grad_enabled():
        # There their gradients in bf16 take three to forty times as long as in fp32.
        with torch.autocast("cpu", enabled=False):
            return conv(x.float())
    return conv(x)


def _relu(x: Tensor, cap: float) -> Tensor:
    return F.relu6(x) if cap == 6 else F.relu(x)


def _in_order(tensors: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    names = sorted(name.removesuffix(".weight") for name in tensors if name.endswith(".weight"))
    try:
        return [(tensors[f"{n}.weight"].float(), tensors[f"{n}.bias"].float()) for n in names]
    except KeyError as error:
        raise OptionError(
            f"The backbone has no {error}: neither timm's names nor folded layers."
        ) from error


def _folded_timm(tensors: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Convolutions in order, each with the batch norm behind it folded in (timm's MobileNetV2)."""
    pairs = [("conv_stem", "bn1")]
    blocks = {match[0] for name in tensors if (match := re.match(r"blocks\.\d+\.\d+", name))}
    for block in sorted(blocks, key=lambda name: [int(n) for n in name.split(".")[1:]]):
        inverted = f"{block}.conv_pwl.weight" in tensors
        convs = ("conv_pw", "conv_dw", "conv_pwl") if inverted else ("conv_dw", "conv_pw")
        pairs += [(f"{block}.{conv}", f"{block}.bn{n}") for n, conv in enumerate(convs, 1)]
    try:
        layers = [_fold(tensors, conv, norm) for conv, norm in pairs]
    except KeyError as error:
        raise OptionError(f"The backbone has no {error}: it is no MobileNetV2 of timm.") from error
    except RuntimeError as error:
        raise OptionError(f"The backbone's norms do not fit its layers: {error}.") from error
    weight, bias = layers[0]
    shift = (weight * ((0.5 - _MEAN) / _STD)[:, None, None]).sum((1, 2, 3))
    layers[0] = weight * (0.5 / _STD)[:, None, None], bias + shift
    if "classifier.weight" in tensors:
        head = tensors["classifier.weight"][:, :, None, None], tensors["classifier.bias"]
        layers += [_fold(tensors, "conv_head", "bn2"), head]
    return layers


def _fold(tensors: Mapping[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    scale = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + 1e-5).sqrt()
    weight = tensors[f"{conv}.weight"] * scale[:, None, None, None]
    return weight, tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
