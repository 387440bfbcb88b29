"""Inception-ResNet-v2, the ImageNet classifier, as others have trained it: to be used, not trained.

Szegedy et al. 2017, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning". Tensor names are those of timm's checkpoint. Where the paper's figures and the network
that its authors published differ, this is the published one: its weights are what we load.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.errors import OptionError

# The commit that brought the weights; the Hub's pages of 2025 show none after it that changed them
# (SHA-256 dbea26b13a5fc8351919fed6a94222c0577ce324b2765fd081a798f837ca9d72).
WEIGHTS = "timm/inception_resnet_v2.tf_in1k@89854797f99e77e1189626b74d7c07013a4308fa"

# A convolution: filters, height and width of the kernel, and a stride if it is not 1.
_Conv = tuple[int, ...]
_Branch = tuple[_Conv, ...]

# Modules that change size, beside a pooling, and residual modules: one branch a line.
_MIXED_5B: tuple[_Branch, ...] = (
    ((96, 1, 1),),
    ((48, 1, 1), (64, 5, 5)),
    ((64, 1, 1), (96, 3, 3), (96, 3, 3)),
)
_A: tuple[_Branch, ...] = (
    ((32, 1, 1),),
    ((32, 1, 1), (32, 3, 3)),
    ((32, 1, 1), (48, 3, 3), (64, 3, 3)),
)
_MIXED_6A: tuple[_Branch, ...] = (
    ((384, 3, 3, 2),),
    ((256, 1, 1), (256, 3, 3), (384, 3, 3, 2)),
)
_B: tuple[_Branch, ...] = (
    ((192, 1, 1),),
    ((128, 1, 1), (160, 1, 7), (192, 7, 1)),
)
_MIXED_7A: tuple[_Branch, ...] = (
    ((256, 1, 1), (384, 3, 3, 2)),
    ((256, 1, 1), (288, 3, 3, 2)),
    ((256, 1, 1), (288, 3, 3), (320, 3, 3, 2)),
)
_C: tuple[_Branch, ...] = (
    ((192, 1, 1),),
    ((192, 1, 1), (224, 1, 3), (256, 3, 1)),
)


class _Unit(nn.Module):
    """A convolution, batch norm and ReLU: stride 1 keeps the sides unless `valid`."""

    def __init__(
        self,
        channels: int,
        filters: int,
        height: int,
        width: int,
        stride: int = 1,
        *,
        valid: bool = False,
    ) -> None:
        super().__init__()
        padding = "valid" if valid or stride > 1 else "same"
        self.conv = nn.Conv2d(channels, filters, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(filters, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches and a pooling side by side, their channels one after the other."""

    def __init__(self, channels: int, branches: tuple[_Branch, ...], pool: nn.Module) -> None:
        super().__init__()
        _add_branches(self, channels, branches)
        self.add_module(f"branch{len(branches)}", pool)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


class _Residual(nn.Module):
    """What the branches see, brought to the input's channels and `scale`, is added to the input.

    Small scales kept the training of so deep a network stable (section 3.3).
    """

    def __init__(
        self, channels: int, branches: tuple[_Branch, ...], scale: float, *, relu: bool = True
    ) -> None:
        super().__init__()
        _add_branches(self, channels, branches)
        self.conv2d = nn.Conv2d(sum(branch[-1][0] for branch in branches), channels, 1)
        self.scale = scale
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        *branches, project = self.children()
        x = x + self.scale * project(torch.cat([branch(x) for branch in branches], dim=1))
        return F.relu(x) if self.relu else x


class InceptionResNetV2(nn.Module):
    """Photos to the logits of ImageNet's 1000 classes; meant frozen, in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        # In the order of use, by which `forward` goes; sides are those of a photo of 299.
        self.conv2d_1a = _Unit(3, 32, 3, 3, stride=2)  # 149
        self.conv2d_2a = _Unit(32, 32, 3, 3, valid=True)  # 147
        self.conv2d_2b = _Unit(32, 64, 3, 3)
        self.maxpool_3a = nn.MaxPool2d(3, 2)  # 73
        self.conv2d_3b = _Unit(64, 80, 1, 1)
        self.conv2d_4a = _Unit(80, 192, 3, 3, valid=True)  # 71
        self.maxpool_5a = nn.MaxPool2d(3, 2)  # 35
        smooth = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.mixed_5b = _Mixed(192, _MIXED_5B, nn.Sequential(smooth, _Unit(192, 64, 1, 1)))
        self.repeat = nn.Sequential(*(_Residual(320, _A, 0.17) for _ in range(10)))
        self.mixed_6a = _Mixed(320, _MIXED_6A, nn.MaxPool2d(3, 2))  # 17
        self.repeat_1 = nn.Sequential(*(_Residual(1088, _B, 0.1) for _ in range(20)))
        self.mixed_7a = _Mixed(1088, _MIXED_7A, nn.MaxPool2d(3, 2))  # 8
        self.repeat_2 = nn.Sequential(*(_Residual(2080, _C, 0.2) for _ in range(9)))
        self.block8 = _Residual(2080, _C, 1.0, relu=False)
        self.conv2d_7b = _Unit(2080, 1536, 1, 1)
        self.classif = nn.Linear(1536, 1000)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1], trained at 299 and good for sides from 75, to (N, 1000)."""
        *layers, classify = self.children()
        x = rgb
        for layer in layers:
            x = layer(x)
        return classify(x.mean((2, 3)))

    def load_backbone(self, tensors: Mapping[str, Tensor]) -> None:
        """Take all of a checkpoint's weights and statistics, kept in this network's precision.

        The norms' counters of batches may be missing: only training reads them. Raises
        OptionError, before anything is changed, if names or shapes are not these.
        """
        own = {name: tuple(each.shape) for name, each in self.state_dict().items()}
        given = {name: tuple(each.shape) for name, each in tensors.items()}
        needed = [name for name in own if not name.endswith("num_batches_tracked")]
        faults = [f"{name} is missing" for name in needed if name not in given]
        faults += [f"{name} has no place here" for name in given if name not in own]
        faults += [
            f"{name} has the shape {given[name]}, not {shape}"
            for name, shape in own.items()
            if given.get(name, shape) != shape
        ]
        if faults:
            more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise OptionError(
                f"The weights are not those of Inception-ResNet-v2: {'; '.join(faults[:3])}{more}. "
                f"Give {WEIGHTS}, or its .safetensors file."
            )
        self.load_state_dict(tensors, strict=False)


def _add_branches(module: nn.Module, channels: int, branches: tuple[_Branch, ...]) -> None:
    """Each branch as branch0, branch1 and on: a lone unit itself, as the checkpoint names it."""
    for n, branch in enumerate(branches):
        widths = [channels, *(filters for filters, *_ in branch)]
        units = [_Unit(width, *conv) for width, conv in zip(widths, branch, strict=False)]
        module.add_module(f"branch{n}", units[0] if len(units) == 1 else nn.Sequential(*units))
