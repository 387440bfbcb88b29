"""Pretrained networks that teach ours: read from safetensors and a JSON that lists their layers."""

import json
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from colorhub.errors import NotFoundError, VariantError


class Backbone(nn.Module):
    """A convolutional trunk with its batch norm folded in, frozen.

    The JSON beside the weights lists the layers in order: 3x3 and 1x1 convolutions ("conv2d",
    with stride, groups and TensorFlow's "same" padding, ReLU6 or no activation) and sums ("add"),
    each with the names of its inputs.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(f"{path}: there is no such backbone; give a .safetensors file.")
        try:
            about = json.loads(path.with_suffix(".json").read_text())
            self.layers: list[dict[str, Any]] = about["layers"]
            weights = load_file(path)
            for layer in self.layers:
                for part in ("weight", "bias") if layer["op"] == "conv2d" else ():
                    tensor = weights[f"{layer['name']}.{part}"].float()
                    self.register_buffer(f"{layer['name']}_{part}", tensor, persistent=False)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise VariantError(f"{path} and its .json are no backbone ({error!r}).") from error
        self.channels = next(
            layer["weight_shape"][0] for layer in reversed(self.layers) if layer["op"] == "conv2d"
        )

    def forward(self, rgb: Tensor) -> Tensor:
        """sRGB (N, 3, H, W) in [0, 1] to the last features (N, channels, H/32, W/32)."""
        outputs = {"input": rgb * 2 - 1}
        x = rgb
        for layer in self.layers:
            given = [outputs[name] for name in layer["inputs"]]
            x = given[0] + given[1] if layer["op"] == "add" else self._convolve(layer, given[0])
            outputs[layer["name"]] = x
        return x

    def _convolve(self, layer: dict[str, Any], x: Tensor) -> Tensor:
        weight = getattr(self, f"{layer['name']}_weight")
        kernel, stride = weight.shape[-1], layer["stride"]
        padding = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        bias = getattr(self, f"{layer['name']}_bias")
        x = F.conv2d(F.pad(x, padding), weight, bias, stride, groups=layer["groups"])
        return F.relu6(x) if layer["activation"] == "relu6" else x
