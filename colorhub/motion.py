"""Where things move between the frames of a clip, in torch: what the temporal term is made of.

Optical flow is OpenCV's DIS (Kroeger et al. 2016) of the lightness. A pixel counts as followed
where the lightness found at the flow's end is what it was at its beginning, within `ALIKE`.
"""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from colorhub.errors import OptionError

ALIKE = 5 / 50  # 5 of L, in the units that networks see
_SMALLEST = 32  # pixels of a side below which frames are enlarged for DIS, which has no levels else


@torch.no_grad()
def flow_of(lightness: Tensor) -> tuple[Tensor, Tensor]:
    """Clips (N, T, 1, H, W) in [-1, 1] to the flow from each frame but the last to the next.

    Returns (flow (N, T - 1, 2, H, W) in pixels, x first, and whether a pixel was followed
    (N, T - 1, 1, H, W), bool). Raises OptionError if OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise OptionError("Optical flow needs OpenCV: pip install 'colorhub[video]'") from None
    size = lightness.shape[-2:]
    scale = max(1, -(-_SMALLEST // min(size)))  # a whole number, so that the way back is exact
    pictures = lightness.flatten(0, 1).float().cpu()
    if scale > 1:
        pictures = F.interpolate(pictures, scale_factor=scale, mode="bilinear")
    levels = ((pictures[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    levels = levels.reshape(*lightness.shape[:2], *levels.shape[1:])
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = [
        np.asarray(dis.calc(frame, following, None))  # type: ignore[call-overload]
        for clip in levels
        for frame, following in pairwise(clip)
    ]
    flow = torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2)
    flow = F.avg_pool2d(flow, scale) / scale if scale > 1 else flow
    flow = flow.unflatten(0, (len(lightness), -1)).to(lightness.device)
    same = (followed(lightness, flow) - lightness[:, :-1]).abs() < ALIKE
    return flow, same & _inside(flow)


def followed(x: Tensor, flow: Tensor) -> Tensor:
    """Of maps (N, T, C, H, W) what each frame's pixels become in the next: (N, T - 1, C, H, W)."""
    height, width = x.shape[-2:]
    ends = _ends(flow).flatten(0, 1)  # (N * (T - 1), 2, H, W)
    sides = torch.tensor([width, height], device=x.device).view(1, 2, 1, 1)
    grid = ((2 * ends + 1) / sides - 1).permute(0, 2, 3, 1)  # pixels' middles, as grid_sample wants
    found = F.grid_sample(
        x[:, 1:].flatten(0, 1).float(), grid, padding_mode="border", align_corners=False
    )
    return found.unflatten(0, flow.shape[:2])


def change(x: Tensor, flow: Tensor, seen: Tensor) -> Tensor:
    """Mean square of the change of maps (N, T, C, H, W) along the flow, where it was followed."""
    square = (followed(x, flow) - x[:, :-1]).square() * seen
    return square.sum() / (seen.sum() * x.shape[2]).clamp(min=1)


def _ends(flow: Tensor) -> Tensor:
    """Where in the next frame each pixel goes, in pixels."""
    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return flow + torch.stack((x, y)).to(flow)


def _inside(flow: Tensor) -> Tensor:
    x, y = _ends(flow).unbind(2)
    height, width = flow.shape[-2:]
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))[:, :, None]
