"""sRGB <-> CIE L*a*b* (D65, 2 degrees) in torch, and the way back into sRGB's gamut.

`rgb_to_lab` and `lab_to_rgb` are batched (N, 3, H, W), differentiable and device-agnostic, and do
not clip: a colour that sRGB cannot show comes out below 0 or above 1. `lightness_of` and
`lab_to_levels` are the same for whole photos on a CPU, fast. There a colour that sRGB cannot show
loses chroma at constant lightness and hue, which keeps the photo's own tones where clipping the
channels would change them.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Linear sRGB to XYZ and the D65 white (ITU-R BT.709 primaries, to the digits scikit-image uses).
_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)

_INVERSE = np.linalg.inv(np.array(_TO_XYZ) / np.array(_WHITE)[:, None]).tolist()

# A channel this far outside [0, 1] still rounds to a legal 8-bit level.
_HALF_LEVEL = 0.5 / 255

_FINE = (1 << 16) - 1  # steps of the table from luminance to lightness
_BINS = 1 << 14  # steps of the table from light to levels


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB in [0, 1] to Lab: (N, 3, H, W), L in [0, 100], a and b about [-128, 127]."""
    xyz = _mix(_decode(rgb), _matrix(rgb.dtype, str(rgb.device)))
    x, y, z = _cube_root_ramp(xyz).unbind(dim=1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Lab (N, 3, H, W) to sRGB; outside [0, 1] where sRGB cannot show the colour."""
    return encode(_lab_to_linear(lab))


def lightness_of(levels: Tensor) -> Tensor:
    """L of sRGB levels: uint8 or uint16 (1 or 3, ...), of 8 or 16 bits, to L (...) in [0, 100].

    The same as `rgb_to_lab` gives, by tables and without a and b: many times faster.
    """
    indices, device = levels.int().flatten(1), levels.device
    if len(levels) == 1:
        lightness = _grey_table(levels.dtype).to(device).index_select(0, indices[0])
        return lightness.view(levels.shape[1:])
    tables = _luminance_tables(levels.dtype).to(device)
    luminance, *others = (
        table.index_select(0, index) for table, index in zip(tables, indices, strict=True)
    )
    for other in others:
        luminance += other
    if levels.dtype == torch.uint8:
        steps = luminance.mul_(_FINE).add_(0.5).int()
        lightness = _lightness_table().to(device).index_select(0, steps)
    else:
        lightness = 116 * _cube_root_ramp(luminance) - 16
    return lightness.view(levels.shape[1:])


def lab_to_levels(lightness: Tensor, ab: Tensor, dtype: torch.dtype = torch.uint8) -> Tensor:
    """L (...) in [0, 100] and ab (2, ...) to sRGB levels (3, ...), uint8 or uint16; on the CPU.

    Colours that sRGB cannot show lose chroma until they fit, at constant lightness and hue. What
    `lab_to_rgb` gives for the others, rounded, within one level of 8 bits; in passes that need
    little memory and time.
    """
    shape, lightness, ab = lightness.shape, lightness.flatten(), ab.flatten(1)
    light = _light(lightness, ab)
    low, high = _gamut()
    least, most = torch.aminmax(light)
    if least < low or most > high:
        places = _outside(light, low, high)
        few, colors = lightness.index_select(0, places), ab.index_select(1, places)
        fitted = _light(few, colors * _chroma_kept(few, colors))
        light.scatter_(1, places.expand(3, -1), fitted)
    if dtype == torch.uint8:
        steps = light.int().clamp_(0, _BINS)
        return _level_table().index_select(0, steps.view(-1)).view(3, *shape)
    levels = encode(light.div_(_BINS)).clamp_(0, 1).mul_(65535).add_(0.5)
    return levels.int().to(dtype).view(3, *shape)


def _light(lightness: Tensor, ab: Tensor) -> Tensor:
    """As `_lab_to_linear`, of L (M,) and ab (2, M): (3, M) in steps of 1 / `_BINS`, fast on CPUs.

    The curve is reckoned with 116 times its variable: it is a cube above 24, below it the tangent.
    """
    ramp = torch.empty(3, len(lightness))
    torch.add(lightness, 16, out=ramp[1])
    torch.add(ramp[1], ab[0], alpha=116 / 500, out=ramp[0])
    torch.add(ramp[1], ab[1], alpha=-116 / 200, out=ramp[2])
    above = ramp.clamp(min=24)
    square = above * above
    ramp.sub_(above).addcmul_(above, square, value=1 / (3 * 24**2))  # xyz in other units
    return torch.matmul(_from_ramp(), ramp, out=above)


def _outside(light: Tensor, low: float, high: float) -> Tensor:
    """The places (K,) in (3, M) where a channel is outside of the bounds."""
    # NumPy finds them ten times faster than torch does.
    channels = light.numpy()
    outside = np.logical_or(channels > high, channels < low)
    return torch.from_numpy(np.flatnonzero(outside[0] | outside[1] | outside[2]))


def _chroma_kept(lightness: Tensor, ab: Tensor) -> Tensor:
    """The share of chroma with which colours outside of sRGB, L (M,) and ab (2, M), just fit."""
    size = ab.abs().sum(0)
    direction = torch.copysign(1 - ab[0] / size, ab[1])  # -2 to 2, once around
    place = torch.stack((direction / 2, lightness / 50 - 1), dim=1)[None, None]
    most = F.grid_sample(_border(), place, padding_mode="border", align_corners=True)
    return (most.view(-1) / size).clamp_(max=1)


@functools.cache
def _border() -> Tensor:
    """The largest |a| + |b| inside of sRGB, by lightness and direction: (1, 1, 257, 513)."""
    direction, lightness = torch.linspace(-2, 2, 513), torch.linspace(0, 100, 257)
    a = 1 - direction.abs()
    b = torch.copysign(1 - a.abs(), direction)
    ab = torch.stack((a, b))[:, None].expand(2, 257, 513).flatten(1)
    lightness = lightness[:, None].expand(257, 513).flatten()
    size, step = torch.zeros_like(lightness), 128.0
    while step > 0.001:
        least, most = torch.aminmax(_light(lightness, ab * (size + step)), dim=0)
        size += step * ((least >= 0) & (most <= _BINS))
        step /= 2
    return size.view(1, 1, 257, 513)


@functools.cache
def _from_ramp() -> Tensor:
    """What `_light` has made of the ramp to sRGB's light."""
    return torch.tensor(_INVERSE) * (3 * 24**2 / 116**3 * _BINS)


def to_lightness(lab: Tensor) -> Tensor:
    """What networks see: (N, 3, H, W) Lab to (N, 1, H, W) lightness in [-1, 1]."""
    return lab[:, :1] / 50 - 1


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
def _gamut() -> tuple[float, float]:
    """The least and the most light of a channel that rounds to a legal level, in `_BINS`."""
    low, high = _decode(torch.tensor([-_HALF_LEVEL, 1 + _HALF_LEVEL], dtype=torch.float64))
    return low.item() * _BINS, high.item() * _BINS


@functools.cache
def _luminance_tables(dtype: torch.dtype) -> Tensor:
    """What each level of red, green and blue adds to Y, whose white is 1: (3, levels)."""
    levels = torch.iinfo(dtype).max + 1
    light = _decode(torch.arange(levels, dtype=torch.float64) / (levels - 1))
    return (torch.tensor(_TO_XYZ[1], dtype=torch.float64)[:, None] * light).float()


@functools.cache
def _grey_table(dtype: torch.dtype) -> Tensor:
    """L of each level of grey."""
    return 116 * _cube_root_ramp(_luminance_tables(dtype).double().sum(0)).float() - 16


@functools.cache
def _lightness_table() -> Tensor:
    """L of Y in steps of 1 / `_FINE`, of which the darkest are 0.014 of L apart."""
    luminance = torch.arange(_FINE + 2, dtype=torch.float64) / _FINE
    return (116 * _cube_root_ramp(luminance) - 16).float()


@functools.cache
def _level_table() -> Tensor:
    """8-bit levels of light in steps so fine that the darkest are a fifth of a level apart."""
    light = (torch.arange(_BINS + 1, dtype=torch.float64) + 0.5) / _BINS
    return (encode(light) * 255).round().clamp(0, 255).to(torch.uint8)


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


def encode(linear: Tensor) -> Tensor:
    """sRGB's transfer curve, from light, both in [0, 1]; negative light stays negative."""
    curve = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curve, 12.92 * linear)


def _cube_root_ramp(xyz: Tensor) -> Tensor:
    root = xyz.clamp(min=0.008856) ** (1 / 3)
    return torch.where(xyz > 0.008856, root, 7.787 * xyz + 16 / 116)
