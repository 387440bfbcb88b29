"""Frozen networks that know pictures, for losses that ask what a coloured photo looks like."""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor

from colorhub import hub
from colorhub.color import lab_to_rgb
from colorhub.encoders import Encoder
from colorhub.layers import pad_to_multiple


def features_of(
    source: str, encoder: str, accelerator: Accelerator
) -> Callable[[Tensor], list[Tensor]]:
    """RGB (N, 3, H, W) in [0, 1] to the five maps of a backbone, for `losses.features`.

    `source` is a .safetensors file or a Hub repository with the weights of `encoder`, one of
    `encoders.NAMES`. Raises NotFoundError, HubError or OptionError.
    """
    backbone = Encoder(encoder, inputs=3).to(accelerator.device).requires_grad_(False)
    backbone.load_backbone(hub.backbone(source))

    def teacher(picture: Tensor) -> list[Tensor]:
        with accelerator.autocast():
            return backbone(pad_to_multiple(2 * picture - 1, 32))

    return teacher


def picture(lightness: Tensor, ab: Tensor) -> Tensor:
    """Lightness (N, 1, H, W) in [-1, 1] and ab (N, 2, H, W) in Lab units to RGB in [0, 1]."""
    return lab_to_rgb(torch.cat((50 * lightness + 50, ab.float()), dim=1)).clamp(0, 1)
