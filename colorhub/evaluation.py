"""A variant measured on a data set, beside two baselines that know nothing."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from colorhub.colorizer import Colorizer, paint
from colorhub.data import ColourPhotos, Rows, value_of
from colorhub.metrics import PAIRWISE, colorfulness, mean_interval

Values = dict[str, list[float]]
"""A figure for each photo, by metric."""


def evaluate(
    colorizer: Colorizer,
    rows: Rows,
    *,
    mean_ab: tuple[float, float] | None,
    max_images: int | None = None,
    seed: int = 0,
    group_column: str | None = None,
    crop: int | None = None,
) -> dict[str, Any]:
    """Colour every photo at its own size and compare with the truth, as a user would get it.

    Baselines, through the same path: "grey" (ab = 0) and, if `mean_ab` (Lab units) is known,
    "mean_ab" (the training photos' mean colour everywhere). Photos without colour and broken ones
    are skipped, named and counted. Each figure is a mean over photos with its 95 % bootstrap
    interval; "colorfulness_ratio" is a method's mean colorfulness over the truths'. With
    `group_column`, a column that `rows` carry (see `open_rows`), "groups" has the variant's means
    over the photos of each of its values. With `crop` what is measured, and what the network
    sees, is the central square of each photo, brought to so many pixels. Raises DataError if no
    photo is left.
    """
    methods: dict[str, Callable[[Image.Image], Image.Image]] = {
        "variant": lambda photo: paint(photo, colorizer.predict(photo, seed=seed, resolution=crop)),
        "grey": lambda photo: _flat(photo, (0.0, 0.0)),
    }
    if mean_ab is not None:
        methods["mean_ab"] = lambda photo: _flat(photo, mean_ab)
    values: dict[str, Values] = {
        method: {metric: [] for metric in [*PAIRWISE, "colorfulness"]} for method in methods
    }
    truths: list[float] = []
    groups: dict[str, list[int]] = defaultdict(list)  # numbers of their photos
    photos = ColourPhotos(rows, max_images=max_images)
    for row, photo in photos:
        if group_column is not None:
            groups[value_of(rows, row, group_column)].append(len(truths))
        if crop is not None:
            photo = ImageOps.fit(photo, (crop, crop), Image.Resampling.BICUBIC)
        truth = np.asarray(photo)
        truths.append(colorfulness(truth))
        for method, colour in methods.items():
            result = np.asarray(colour(photo))
            for metric, measure in PAIRWISE.items():
                values[method][metric].append(measure(truth, result))
            values[method]["colorfulness"].append(colorfulness(result))
    results = {
        "images": len(truths),
        "skipped": len(photos.skipped),
        "seed": seed,
        **({} if crop is None else {"crop": crop}),
        "metrics": {method: _intervals(each, truths) for method, each in values.items()},
        "truth": {"colorfulness": mean_interval(truths)},
    }
    if group_column is not None:
        results["group_column"] = group_column
        results["groups"] = {
            name: _means(values["variant"], truths, members)
            for name, members in sorted(groups.items())
        }
    return results


def _intervals(values: Values, truths: list[float]) -> dict[str, dict[str, float]]:
    intervals = {metric: mean_interval(each) for metric, each in values.items()}
    intervals["colorfulness_ratio"] = mean_interval(values["colorfulness"], over=truths)
    return intervals


def _means(values: Values, truths: list[float], members: list[int]) -> dict[str, float]:
    """A group's means over the photos with these numbers."""
    shown = {metric: values[metric] for metric in ("ciede2000", "ab_rmse", "colorfulness")}
    shown["truth_colorfulness"] = truths
    means = {
        name: round(float(np.mean([each[i] for i in members])), 4) for name, each in shown.items()
    }
    return {"images": len(members), **means}


def _flat(photo: Image.Image, ab: tuple[float, float]) -> Image.Image:
    return paint(photo, torch.tensor(ab).view(1, 2, 1, 1))
