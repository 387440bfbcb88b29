"""sRGB <-> CIE L*a*b* (D65, 2 degrees) in torch, and the way back into sRGB's gamut.

Everything is batched (N, 3, H, W), differentiable and device-agnostic. `lab_to_rgb` does not
clip: a colour that sRGB cannot show comes out below 0 or above 1. `fit_gamut` is what brings such
a colour back: its chroma is lowered at constant lightness and hue, which keeps the photo's own
tones where clipping the channels would change them.
"""

import functools

import numpy as np
import torch
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
_AT_ONCE = 1 << 16  # colours outside of sRGB that are fitted at a time
_STEPS = 10  # of bisection: the chroma kept is known to a thousandth


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB in [0, 1] to Lab: (N, 3, H, W), L in [0, 100], a and b about [-128, 127]."""
    xyz = _mix(_decode(rgb), _matrix(rgb.dtype, str(rgb.device)))
    x, y, z = _cube_root_ramp(xyz).unbind(dim=1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Lab (N, 3, H, W) to sRGB; outside [0, 1] where sRGB cannot show the colour."""
    return encode(_lab_to_linear(lab))


def fit_gamut(lab: Tensor) -> Tensor:
    """Lower the chroma of colours outside sRGB until they fit, at constant lightness and hue.

    Colours inside come back unchanged. Takes and gives Lab (N, 3, H, W) with L in [0, 100].
    The chroma kept is within a thousandth of the most that fits.
    """
    lightness, a, b = lab.unbind(1)
    ab = torch.stack((a.flatten(), b.flatten()))
    fitted = _fit(lightness.flatten(), ab.clone())
    return torch.stack((lightness, *fitted.view(2, *lightness.shape)), dim=1)


def _fit(lightness: Tensor, ab: Tensor) -> Tensor:
    """`fit_gamut` for L (M,) and ab (2, M), which it changes."""
    places = (_excess(_linear(lightness, ab)) > 0).nonzero().squeeze(1)
    for some in places.split(_AT_ONCE):
        ab[:, some] *= _chroma_kept(lightness[some], ab[:, some])
    return ab


def _chroma_kept(lightness: Tensor, ab: Tensor) -> Tensor:
    """The share of chroma with which colours outside of sRGB, L (M,) and ab (2, M), just fit."""
    kept = torch.full_like(lightness, 0.5)
    for step in range(2, _STEPS + 2):  # bisection: half the way further in or out
        kept.sub_(_excess(_linear(lightness, ab * kept)).sign_(), alpha=0.5**step)
    return kept.sub_(0.5 ** (_STEPS + 1)).clamp_(min=0)


def _excess(linear: Tensor) -> Tensor:
    """How far the light of (3, M) is outside of what rounds to a legal level; 0 or less fits."""
    most = torch.maximum(torch.maximum(linear[0], linear[1]), linear[2])
    least = torch.minimum(torch.minimum(linear[0], linear[1]), linear[2])
    low, high = _gamut()
    return torch.maximum(most.sub_(high), least.neg_().add_(low))


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
    """L (...) and ab (2, ...) to sRGB levels (3, ...), uint8 or uint16.

    Colours outside of sRGB lose chroma as in `fit_gamut`. What `lab_to_rgb` gives after it,
    rounded, within one level of 8 bits; in passes that need little memory and time.
    """
    shape, lightness, ab = lightness.shape, lightness.flatten(), ab.flatten(1)
    linear = _linear(lightness, ab)
    places = (_excess(linear) > 0).nonzero().squeeze(1)
    for some in places.split(_AT_ONCE):
        kept = _chroma_kept(lightness[some], ab[:, some])
        linear[:, some] = _linear(lightness[some], ab[:, some] * kept)
    if dtype == torch.uint8:
        bins = len(_level_table()) - 1
        indices = linear.mul_(bins).add_(0.5).clamp_(0, bins).int()
        return _level_table().index_select(0, indices.view(-1)).view(3, *shape)
    levels = encode(linear).clamp_(0, 1).mul_(65535).add_(0.5)
    return levels.int().to(dtype).view(3, *shape)


def _linear(lightness: Tensor, ab: Tensor) -> Tensor:
    """As `_lab_to_linear`, for L (M,) and ab (2, M), to (3, M); in passes that are fast on CPUs.

    With L + 16 in the place of y, and the cube of 116 in the matrix.
    """
    ramp = torch.empty(3, len(lightness), dtype=lightness.dtype)
    torch.add(lightness, ab[0], alpha=116 / 500, out=ramp[0])
    torch.add(lightness, ab[1], alpha=-116 / 200, out=ramp[2])
    ramp[1] = lightness
    knee = 116 * 6 / 29 - 16  # of L, below which goes the curve's tangent
    toe = (ramp - knee).clamp_(max=0)
    x, y, z = ramp.clamp_(min=knee).add_(16).pow_(3).add_(toe, alpha=3 * (knee + 16) ** 2)
    linear = torch.empty_like(toe)
    for channel, (of_x, of_y, of_z) in zip(linear, _INVERSE, strict=True):
        torch.mul(x, of_x / 116**3, out=channel)
        channel.add_(y, alpha=of_y / 116**3).add_(z, alpha=of_z / 116**3)
    return linear


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
    """The least and the most light of a channel that rounds to a legal level."""
    low, high = _decode(torch.tensor([-_HALF_LEVEL, 1 + _HALF_LEVEL], dtype=torch.float64))
    return low.item(), high.item()


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
    light = torch.arange(1 << 14, dtype=torch.float64) / ((1 << 14) - 1)
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
