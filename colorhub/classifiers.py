"""Networks that tell what a picture shows: the ResNet-34 of a thesis, and the same without."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.errors import OptionError
from colorhub.layers import BatchNorm2d

_BLOCKS = (3, 4, 6, 3)  # of each stage (He et al. 2016, table 1)


class ResNet34(nn.Module):
    """34 layers with shortcuts, or without them the plain ConvNet-34 (He et al. 2016; the thesis
    "Residual Networks with Application to Image Colorization", chapter 3).

    Its weights are named as torchvision's. Where shapes change the shortcut is a 1x1 convolution
    with a norm; the mean over the last maps is what the thesis has at 28 pixels, where they are of
    one pixel.
    """

    @dataclass(frozen=True)
    class Config:
        classes: int = 1000
        """Length of the output."""
        width: int = 64
        """Channels of the first stage; the others have twice, four and eight times as many."""
        shortcuts: bool = True
        """Add each block's input to its output."""

        def __post_init__(self) -> None:
            if self.classes < 1 or self.width < 1:
                raise OptionError(f"{self} is no network: classes and width must be 1 or more.")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.conv1 = nn.Conv2d(1, w, 7, 2, 3, bias=False)
        self.bn1 = BatchNorm2d(w)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            self._stage(max(w, w << level >> 1), w << level, blocks)
            for level, blocks in enumerate(_BLOCKS)
        )
        self.fc = nn.Linear(8 * w, config.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _stage(self, narrow: int, wide: int, blocks: int) -> nn.Sequential:
        shortcuts = self.config.shortcuts
        first = _Block(narrow, wide, shortcuts=shortcuts)
        return nn.Sequential(
            first, *(_Block(wide, wide, shortcuts=shortcuts) for _ in range(blocks - 1))
        )

    def forward(self, grey: Tensor) -> Tensor:
        """(N, 1, H, W) to logits (N, classes)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(grey))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class _Block(nn.Module):
    """Two 3x3 convolutions with norms; the picture is halved where channels double."""

    def __init__(self, narrow: int, wide: int, *, shortcuts: bool) -> None:
        super().__init__()
        stride = 1 if narrow == wide else 2
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(wide)
        self.shortcuts = shortcuts
        self.downsample = None
        if shortcuts and stride == 2:
            conv = nn.Conv2d(narrow, wide, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, BatchNorm2d(wide))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.shortcuts:
            y = y + (x if self.downsample is None else self.downsample(x))
        return F.relu(y)
