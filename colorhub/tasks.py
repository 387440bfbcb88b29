"""What a training run teaches: what it makes of its photos, and how it shows what was learned."""

from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from colorhub import weights
from colorhub.color import lightness_of, rgb_to_lab, to_lightness
from colorhub.colorizer import Colorizer
from colorhub.data import rows_of
from colorhub.evaluation import evaluate
from colorhub.options import Options
from colorhub.provenance import dataset_facts
from colorhub.samples import sample_photos, triptychs


class Task(Protocol):
    """How a run's data become its batches, samples and figures."""

    def batch(self, photos: Tensor) -> tuple[Tensor, ...]:
        """What one update sees, from (N, C, R, R) uint8 on the device, as the run's view made it.

        In the first epoch it is followed by `statistics`.
        """

    def statistics(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Scalars of a batch that are averaged over the first epoch."""

    def samples(self, generator: Any, device: str) -> Image.Image:
        """A sheet that shows what the generator can do by now."""

    def measure(self, folder: Path, split: str, device: str) -> tuple[dict[str, Any], ...]:
        """(facts of the data, figures) of the finished variant in `folder`, for its card."""


class Colouring:
    """Photos to (lightness, ab), triptychs, and the figures of `evaluate`."""

    def __init__(self, config: Options, ab_gain: float) -> None:
        self.config = config
        self.ab_gain = ab_gain
        self.photos = sample_photos(config.validation_images)

    def batch(self, photos: Tensor) -> tuple[Tensor, ...]:
        """(lightness (N, 1, R, R), ab (N, 2, R, R)), both in [-1, 1]."""
        lab = rgb_to_lab(photos[:, :3].float() / 255)
        seen = lab if photos.shape[1] == 3 else lightness_of(photos[None, :, 3])[:, None]
        lightness, ab = to_lightness(seen), lab[:, 1:] / self.ab_gain
        layout = torch.channels_last
        return lightness.to(memory_format=layout), ab.to(memory_format=layout)

    def statistics(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The mean colour, in Lab units."""
        a, b = self.ab_gain * batch[1].mean(dim=(0, 2, 3))
        return {"mean a": a, "mean b": b}

    def samples(self, generator: Any, device: str) -> Image.Image:
        """Input, truth and output of the sample photographs."""
        return triptychs(Colorizer(generator, device=device), self.photos)

    def measure(self, folder: Path, split: str, device: str) -> tuple[dict[str, Any], ...]:
        """The variant beside grey and the mean colour."""
        rows = rows_of(self.config, split)
        results = evaluate(
            Colorizer(weights.load(folder), device=device),
            rows,
            mean_ab=weights.read_config(folder)["mean_ab"],
            max_images=self.config.max_validation_images,
        )
        return dataset_facts(self.config.dataset_name, split, rows), results
