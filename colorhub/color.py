"""sRGB <-> CIE L*a*b* (D65, 2 degrees) in torch, and the way back into sRGB's gamut.

Everything is batched (N, 3, H, W), differentiable and device-agnostic. `lab_to_rgb` does not
clip: a colour that sRGB cannot show comes out below 0 or above 1. `fit_gamut` is what brings such
a colour back: its chroma is lowered at constant lightness and hue, which keeps the photo's own
tones where clipping the channels would change them.
"""

import functools

import torch
from torch import Tensor

# Linear sRGB to XYZ and the D65 white (ITU-R BT.709 primaries, to the digits scikit-image uses).
_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)

# A channel this far outside [0, 1] still rounds to a legal 8-bit level.
_HALF_LEVEL = 0.5 / 255


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB in [0, 1] to Lab: (N, 3, H, W), L in [0, 100], a and b about [-128, 127]."""
    xyz = _mix(_decode(rgb), _matrix(rgb.dtype, str(rgb.device)))
    x, y, z = _cube_root_ramp(xyz).unbind(dim=1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Lab (N, 3, H, W) to sRGB; outside [0, 1] where sRGB cannot show the colour."""
    return _encode(_lab_to_linear(lab))


def fit_gamut(lab: Tensor) -> Tensor:
    """Lower the chroma of colours outside sRGB until they fit, at constant lightness and hue.

    Colours inside come back unchanged. Takes and gives Lab (N, 3, H, W) with L in [0, 100].
    The chroma kept is found by bisection to 1/4096 of the one asked for.
    """
    outside = ~_fits(lab)
    if not outside.any():
        return lab
    pixels = lab.permute(0, 2, 3, 1)[outside].T[None, :, :, None]  # (1, 3, M, 1)
    chroma = torch.tensor((0.0, 1.0, 1.0), device=lab.device, dtype=lab.dtype).view(1, 3, 1, 1)
    kept = torch.zeros_like(pixels[:, :1])
    for step in range(1, 13):
        wider = kept + 0.5**step
        kept = torch.where(_fits(pixels * (1 - chroma + chroma * wider))[:, None], wider, kept)
    fitted = lab.permute(0, 2, 3, 1).clone()
    fitted[outside] = (pixels * (1 - chroma + chroma * kept))[0, :, :, 0].T
    return fitted.permute(0, 3, 1, 2)


def lightness_of(levels: Tensor) -> Tensor:
    """L of 8-bit sRGB: uint8 (N, 3, H, W), or (N, 1, H, W) for grey, to L (N, 1, H, W).

    The same as `rgb_to_lab` gives, by a table and without a and b: several times faster.
    """
    light = _decode(torch.arange(256, device=levels.device) / 255)
    luminance = torch.tensor(_TO_XYZ[1], device=levels.device)  # Y of the white is 1
    if levels.shape[1] == 1:
        grey = 116 * _cube_root_ramp(light * luminance.sum()) - 16
        return grey[levels.int()]
    red, green, blue = (light * share for share in luminance)
    channels = levels.int().unbind(dim=1)
    y = red[channels[0]] + green[channels[1]] + blue[channels[2]]
    return (116 * _cube_root_ramp(y) - 16)[:, None]


def to_lightness(lab: Tensor) -> Tensor:
    """What networks see: (N, 3, H, W) Lab to (N, 1, H, W) lightness in [-1, 1]."""
    return lab[:, :1] / 50 - 1


def _fits(lab: Tensor) -> Tensor:
    linear = _lab_to_linear(lab)
    low, high = _decode(torch.tensor([-_HALF_LEVEL, 1 + _HALF_LEVEL])).tolist()
    return (linear.amin(dim=1) >= low) & (linear.amax(dim=1) <= high)


def _lab_to_linear(lab: Tensor) -> Tensor:
    lightness, a, b = lab.unbind(dim=1)
    y = (lightness + 16) / 116
    ramp = torch.stack((y + a / 500, y, y - b / 200), dim=1)
    # Below the ramp's linear part the extension stays linear: negative XYZ, but monotone.
    xyz = torch.where(ramp > 0.2068966, ramp**3, (ramp - 16 / 116) / 7.787)
    return _mix(xyz, _inverse(lab.dtype, str(lab.device)))


def _mix(channels: Tensor, matrix: Tensor) -> Tensor:
    return torch.matmul(matrix, channels.flatten(2)).unflatten(2, channels.shape[2:])


@functools.cache
def _matrix(dtype: torch.dtype, device: str) -> Tensor:
    """Linear sRGB to XYZ over the white's."""
    white = torch.tensor(_WHITE, dtype=torch.float64)[:, None]
    return (torch.tensor(_TO_XYZ, dtype=torch.float64) / white).to(device=device, dtype=dtype)


@functools.cache
def _inverse(dtype: torch.dtype, device: str) -> Tensor:
    return torch.linalg.inv(_matrix(torch.float64, "cpu")).to(device=device, dtype=dtype)


def _decode(rgb: Tensor) -> Tensor:
    """sRGB's transfer curve, to light."""
    # The power's argument is held in its branch, or the other branch's gradient would be NaN.
    curve = ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(rgb > 0.04045, curve, rgb / 12.92)


def _encode(linear: Tensor) -> Tensor:
    """Light to sRGB; linear below the toe, so negative light stays negative."""
    curve = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curve, 12.92 * linear)


def _cube_root_ramp(xyz: Tensor) -> Tensor:
    root = xyz.clamp(min=0.008856) ** (1 / 3)
    return torch.where(xyz > 0.008856, root, 7.787 * xyz + 16 / 116)
