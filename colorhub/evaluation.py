"""A variant measured on a data set, beside two baselines that know nothing."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from colorhub.colorizer import Colorizer, paint
from colorhub.data import Rows, decode_row, guarded, is_grey, row_name
from colorhub.errors import DataError, PhotoError
from colorhub.metrics import PAIRWISE, colorfulness, mean_interval

SMALLEST = 7  # pixels of a side below which SSIM has no window


def evaluate(
    colorizer: Colorizer,
    rows: Rows,
    *,
    mean_ab: tuple[float, float] | None,
    max_images: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Colour every photo at its own size and compare with the truth, as a user would get it.

    Baselines, through the same path: "grey" (ab = 0) and, if `mean_ab` (Lab units) is known,
    "mean_ab" (the training photos' mean colour everywhere). Photos without colour and broken ones
    are skipped, named and counted. Each figure is a mean over photos with its 95 % bootstrap
    interval. Raises DataError if no photo is left.
    """
    methods: dict[str, Callable[[Image.Image], Image.Image]] = {
        "variant": lambda photo: colorizer.colorize(photo, seed=seed),
        "grey": lambda photo: _flat(photo, (0.0, 0.0)),
    }
    if mean_ab is not None:
        methods["mean_ab"] = lambda photo: _flat(photo, mean_ab)
    values: dict[str, dict[str, list[float]]] = {
        method: {metric: [] for metric in [*PAIRWISE, "colorfulness"]} for method in methods
    }
    truths: list[float] = []
    skipped: list[str] = []
    total = getattr(rows, "num_rows", None)
    limit = min(filter(None, (max_images, total)), default=None)
    with tqdm(total=limit, unit="img") as bar:
        for row in guarded(rows):
            if max_images is not None and len(truths) >= max_images:
                break
            try:
                photo = decode_row(row)
                if is_grey(photo) or min(photo.size) < SMALLEST:
                    raise PhotoError(f"{row_name(row)} is grey or under {SMALLEST} pixels")
            except PhotoError as error:
                skipped.append(str(error))
                bar.write(f"skipped: {error}", file=sys.stderr)
                continue
            truth = np.asarray(photo)
            truths.append(colorfulness(truth))
            for method, colour in methods.items():
                result = np.asarray(colour(photo))
                for metric, measure in PAIRWISE.items():
                    values[method][metric].append(measure(truth, result))
                values[method]["colorfulness"].append(colorfulness(result))
            bar.update()
    if not truths:
        raise DataError(f"No photo could be measured: {len(skipped)} skipped ({skipped[:3]}).")
    return {
        "images": len(truths),
        "skipped": len(skipped),
        "seed": seed,
        "metrics": {
            method: {metric: mean_interval(each) for metric, each in metrics.items()}
            for method, metrics in values.items()
        },
        "truth": {"colorfulness": mean_interval(truths)},
    }


def _flat(photo: Image.Image, ab: tuple[float, float]) -> Image.Image:
    return paint(photo, torch.tensor(ab).view(1, 2, 1, 1))
