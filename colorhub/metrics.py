"""How close a coloured photo comes to the true one, and how sure a mean is."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""sRGB (H, W, 3), 8 bits."""


def psnr(truth: Picture, result: Picture) -> float:
    """Peak signal-to-noise ratio over RGB in dB, at most 100 (equal pictures have none)."""
    from skimage.metrics import peak_signal_noise_ratio

    if np.array_equal(truth, result):
        return 100.0
    return min(100.0, float(peak_signal_noise_ratio(truth, result, data_range=255)))


def ssim(truth: Picture, result: Picture) -> float:
    """Structural similarity over RGB, at most 1 (Wang et al. 2004); pictures of 7 px or more."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(truth, result, channel_axis=2, data_range=255))


def ab_rmse(truth: Picture, result: Picture) -> float:
    """Root mean square of the ab error, over pixels and both channels, in Lab units."""
    from skimage.color import rgb2lab

    difference = rgb2lab(truth)[..., 1:] - rgb2lab(result)[..., 1:]
    return float(np.sqrt(np.square(difference).mean()))


def ciede2000(truth: Picture, result: Picture) -> float:
    """Mean CIEDE2000 colour difference over pixels."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    return float(deltaE_ciede2000(rgb2lab(truth), rgb2lab(result)).mean())


def colorfulness(picture: Picture) -> float:
    """Colorfulness M3 of Hasler and Suesstrunk (2003): 0 for grey, above 59 for vivid photos."""
    red, green, blue = np.moveaxis(picture.astype(np.float64), 2, 0)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))


PAIRWISE: dict[str, Callable[[Picture, Picture], float]] = {
    "psnr": psnr,
    "ssim": ssim,
    "ab_rmse": ab_rmse,
    "ciede2000": ciede2000,
}
"""Metrics of a truth and a result, by the name they have in results.json."""


def mean_interval(
    values: Sequence[float], *, over: Sequence[float] | None = None, seed: int = 0
) -> dict[str, float]:
    """Mean and 95 % percentile-bootstrap interval over 2000 resamples: mean, low, high.

    With `over`, a value for each of `values`, the ratio of the two means instead.
    """
    array = np.asarray(values, dtype=np.float64)
    base = np.ones_like(array) if over is None else np.asarray(over, dtype=np.float64)
    random = np.random.default_rng(seed)
    draws = (random.integers(0, len(array), len(array)) for _ in range(2000))
    means = [array[draw].mean() / base[draw].mean() for draw in draws]
    low, high = np.percentile(means, [2.5, 97.5])
    mean = array.mean() / base.mean()
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}
