"""What means over photos do not show: how steady a variant's colours are, and how sure of them.

Everything is measured on the photo with its short side at 256 pixels, so that figures compare
between data sets and variants; distances are Euclidean in ab, in Lab units.
"""

import itertools
import random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from colorhub import degradations
from colorhub.color import rgb_to_lab
from colorhub.colorizer import Colorizer, fit, paint, to_tensor
from colorhub.data import ColourPhotos, Rows
from colorhub.metrics import ab_rmse, ciede2000, colorfulness

PHOTOS = 100  # at the most: each is coloured some thirty times
SIDE = 256  # pixels of the short side that photos are brought to
SHIFT = 8  # pixels: less than the finest grid on which networks pool
NOISE = 2.0  # standard deviation in levels of 255: a good scan's
SEEDS = range(8)  # of the alternatives
PIXELS = 500  # of a photo that enter the calibration
GROUPS = 10  # of pixels that are equally sure
GREY = 8.0  # chroma in Lab units below which a pixel has no hue to speak of
HUES = {  # first angle in the plane of ab, degrees
    "pinks and reds": 345,
    "skin and wood": 45,
    "yellows": 75,
    "leaf greens": 105,
    "teals": 160,
    "sky blues": 220,
    "violets": 285,
}


def robustness(
    colorizer: Colorizer, rows: Rows, *, max_images: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Stability, degradations, alternatives and calibration of a variant on colour photos.

    - "stability": mean distance between the plain prediction and that of the photo at twice the
      "size", mirrored ("flip"), moved by 8 pixels ("shift"), or under faint "noise".
    - "degradations": CIEDE2000, ab RMSE and colorfulness of colours that were predicted from the
      photo as it is ("none"), "aged", or with one of `degradations.NAMES`, and painted on the
      clean one: only the colours are judged.
    - "alternatives", of variants that have some: over seeds 0 to 7 the mean distance between two
      ("diversity"), and the CIEDE2000 of the "first", of the "best_of_8" and of their mean.
    - "hues": see `hues`.
    - "calibration", of variants that know their uncertainty: see `calibration`; and over photos
      the rank correlation of mean uncertainty and mean error.

    Each is a mean over the photos that `evaluate` takes, the first `PHOTOS` at most. What is
    random follows from `seed` and the photo's number alone, so every variant sees the same. Raises
    DataError if no photo is left.
    """
    figures: list[dict[str, Any]] = []
    colours: list[NDArray] = []  # of sampled pixels, (4, PIXELS): true and predicted ab
    pairs: list[NDArray] = []  # of sampled pixels, (2, PIXELS): uncertainty and error
    means: list[NDArray] = []  # of whole photos, (2,)
    for number, (_, photo) in enumerate(
        ColourPhotos(rows, max_images=min(max_images or PHOTOS, PHOTOS))
    ):
        small = fit(photo, SIDE)
        source = np.random.default_rng((seed, number))
        seen = _seen(small, f"{seed}/{number}")
        parts: dict[str, Any] = {
            "stability": _stability(colorizer, photo, source, seed=seed),
            "degradations": {
                name: _judge(small, colorizer.predict(grey, seed=seed))
                for name, grey in seen.items()
            },
        }
        if colorizer.has_alternatives:
            parts["alternatives"] = _alternatives(colorizer, small)
        figures.append(parts)
        both = _true_and_predicted(small, colorizer.predict(small, seed=seed))
        colours.append(source.choice(both, PIXELS, axis=1))
        if colorizer.knows_uncertainty:
            pair = _uncertainty_and_error(colorizer, small)
            means.append(pair.mean(axis=1))
            pairs.append(source.choice(pair, PIXELS, axis=1))
    results = {"images": len(figures), **_mean(figures)}
    results["hues"] = hues(*np.split(np.concatenate(colours, axis=1), 2))
    if pairs:
        results["calibration"] = calibration(*np.concatenate(pairs, axis=1))
        results["calibration"]["photos"] = _rank_correlation(*np.transpose(means))
    return results


def hues(truth: NDArray, predicted: NDArray) -> dict[str, dict[str, float]]:
    """What becomes of pixels of each true hue, from true and predicted ab (2, N) in Lab units.

    Their "share" of all, their mean "chroma", the "painted" part of it in the direction of the
    true hue (negative if the opposite colour was painted), and the mean "error". Pixels with a
    chroma below `GREY` are "greys". Hues without a pixel are left out.
    """
    chroma = np.hypot(*truth)
    values = {
        "chroma": chroma,
        "painted": (truth * predicted).sum(axis=0) / np.maximum(chroma, 1e-6),
        "error": np.hypot(*(truth - predicted)),
    }
    names, starts = zip(*HUES.items(), strict=True)
    angle = np.degrees(np.arctan2(truth[1], truth[0])) - starts[0]
    number = np.searchsorted(np.subtract(starts, starts[0]) % 360, angle % 360, side="right")
    number[chroma < GREY] = 0
    figures = {}
    for index, name in enumerate(("greys", *names)):
        if (these := number == index).any():
            means = {"share": these} | {key: each[these] for key, each in values.items()}
            figures[name] = {key: round(float(each.mean()), 4) for key, each in means.items()}
    return figures


def calibration(uncertainty: NDArray, error: NDArray) -> dict[str, Any]:
    """Whether colours are as far off as predicted: standard deviations and errors, each (N,).

    "groups" are ten of equal size, by uncertainty: [predicted, actual] root mean squares, equal
    where the network knows itself. (The mean error is no match: it is smaller, by 0.82 for a
    Laplace distribution.) "pixels" is the rank correlation, None where either is constant.
    """
    order = np.argsort(uncertainty, kind="stable")
    groups = [
        [_root_mean_square(uncertainty[part]), _root_mean_square(error[part])]
        for part in np.array_split(order, GROUPS)
    ]
    return {"groups": groups, "pixels": _rank_correlation(uncertainty, error)}


def calibration_chart(figures: dict[str, Any]) -> Image.Image:
    """The groups of `calibration` as points, predicted across and actual up, and the diagonal."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = np.array(figures["groups"])
    end = 1.08 * points.max()
    figure = Figure(figsize=(4.5, 4.5), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)  # without pyplot no window system is asked for
    axes = figure.add_subplot(
        xlim=(0, end),
        ylim=(0, end),
        aspect="equal",
        xlabel="predicted uncertainty of ab, Lab units",
        ylabel="actual error of ab, Lab units",
    )
    axes.plot([0, end], [0, end], color="0.6", linewidth=1, linestyle="--", label="as predicted")
    axes.plot(*points.T, color="0.15", marker="o", linewidth=1, label="a tenth of the pixels each")
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _stability(
    colorizer: Colorizer, photo: Image.Image, source: np.random.Generator, *, seed: int
) -> dict[str, float]:
    small = fit(photo, SIDE)
    rgb = np.asarray(small)

    def predict(photo: Image.Image, resolution: int = SIDE) -> Tensor:
        return colorizer.predict(photo, seed=seed, resolution=resolution)

    plain = predict(small)
    height, width = plain.shape[2:]
    large = F.interpolate(predict(photo, 2 * SIDE), size=(height, width), mode="area")
    flipped = predict(small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).flip(3)
    # What comes in at the border is the photo's own reflection: no edge that it does not have.
    moved = np.pad(rgb, ((SHIFT, 0), (SHIFT, 0), (0, 0)), mode="symmetric")[:height, :width]
    shifted = predict(Image.fromarray(moved))[..., SHIFT:, SHIFT:]
    grain = source.normal(0, NOISE, (height, width, 1))  # of the lightness: alike in the channels
    noisy = predict(Image.fromarray((rgb + grain).round().clip(0, 255).astype(np.uint8)))
    return {
        "size": _distance(plain, large),
        "flip": _distance(plain, flipped),
        "shift": _distance(plain[..., :-SHIFT, :-SHIFT], shifted),
        "noise": _distance(plain, noisy),
    }


def _seen(photo: Image.Image, draw: str) -> dict[str, Image.Image]:
    """A photo and what a network may get to see of it, by name; `draw` says what is drawn."""
    seen = {"none": photo, "aged": degradations.age(photo, random.Random(f"{draw}/aged"))}
    for name in degradations.NAMES:
        seen[name] = degradations.degrade(photo, name, random.Random(f"{draw}/{name}"))
    return seen


def _judge(photo: Image.Image, ab: Tensor) -> dict[str, float]:
    """Colours painted on the true photo, compared with its own."""
    # Every second pixel each way: the same means, in less time.
    half = (max(1, photo.width // 2), max(1, photo.height // 2))
    photo = photo.resize(half, Image.Resampling.NEAREST)
    truth, result = np.asarray(photo), np.asarray(paint(photo, ab))
    return {
        "ciede2000": ciede2000(truth, result),
        "ab_rmse": ab_rmse(truth, result),
        "colorfulness": colorfulness(result),
    }


def _alternatives(colorizer: Colorizer, photo: Image.Image) -> dict[str, float]:
    colours = [colorizer.predict(photo, seed=seed) for seed in SEEDS]
    errors = [_judge(photo, ab)["ciede2000"] for ab in colours]
    pairs = itertools.combinations(colours, 2)
    return {
        "diversity": float(np.mean([_distance(one, other) for one, other in pairs])),
        "first": errors[0],
        "best_of_8": min(errors),
        "mean_of_8": float(np.mean(errors)),
    }


def _true_and_predicted(photo: Image.Image, ab: Tensor) -> NDArray:
    """(4, pixels): true and predicted ab of each of the photo's pixels."""
    truth = rgb_to_lab(to_tensor(photo))[:, 1:]
    ab = F.interpolate(ab, size=truth.shape[2:], mode="bilinear")
    return torch.cat((truth, ab), dim=1)[0].flatten(1).numpy()


def _uncertainty_and_error(colorizer: Colorizer, photo: Image.Image) -> NDArray:
    """(2, pixels): predicted and actual distance of the likeliest colours from the true ones."""
    uncertainty = colorizer.uncertainty(photo)
    ab = colorizer.predict(photo, seed=0)
    truth = rgb_to_lab(to_tensor(fit(photo, colorizer.generator.config.resolution)))[:, 1:]
    error = (ab - truth).norm(dim=1)
    return np.stack([each.double().flatten().numpy() for each in (uncertainty, error)])


def _distance(one: Tensor, other: Tensor) -> float:
    """Mean over pixels of the distance of two ab (1, 2, h, w)."""
    return float((one - other).norm(dim=1).mean())


def _mean(photos: list[Any]) -> Any:
    """Figures of each photo, in dicts of one shape, to a dict of their means."""
    if isinstance(photos[0], dict):
        return {name: _mean([photo[name] for photo in photos]) for name in photos[0]}
    return round(float(np.mean(photos)), 4)


def _root_mean_square(values: NDArray) -> float:
    return round(float(np.sqrt(np.square(values).mean())), 4)


def _rank_correlation(one: NDArray, other: NDArray) -> float | None:
    """Spearman's; None where one of the two is constant and there are no ranks."""
    from scipy.stats import spearmanr

    if min(np.ptp(one), np.ptp(other)) == 0:
        return None
    return round(float(spearmanr(one, other).statistic), 4)
