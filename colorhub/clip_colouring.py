"""What a run on films teaches: batches of clips, stills, and figures of clips held back."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from colorhub import hub, metrics, weights
from colorhub.clips import Scene, Source
from colorhub.color import lightness_of, rgb_to_lab, to_lightness
from colorhub.colorizer import fit, paint, to_tensor
from colorhub.errors import DataError
from colorhub.flicker import flicker
from colorhub.flow import grey
from colorhub.generators import FlowChroma, Fusion
from colorhub.provenance import public_words
from colorhub.strips import Moving

STARTS = {"FlowChroma": FlowChroma, "Fusion": Fusion}
"""Networks whose weights a FlowChroma can start from."""

Frames = Sequence[Image.Image]
HEADS = [
    *("", "flicker, of the truth's", "flicker over colorfulness, of the truth's"),
    *("ab RMSE ↓", "CIEDE2000 ↓", "colorfulness ratio"),
]


class ClipColouring:
    """Clips to (lightness, ab), and what a generator of films makes of photos and of clips.

    `network` is the generator's configuration, `view` how clips are made of the `photos` that the
    samples show, `source` where the clips lie that are held back, and `start` the variant that the
    run started from, which is measured as well.
    """

    def __init__(
        self,
        network: FlowChroma.Config,
        view: Moving,
        source: Source,
        photos: Frames,
        start: str | None = None,
    ) -> None:
        self.network = network
        self.view = view
        self.source = source
        self.photos = photos
        self.start = start

    def batch(self, photos: Tensor) -> tuple[Tensor, ...]:
        """(N, 3T, R, R) to (lightness (N, T, 1, R, R), ab (N, T, 2, R, R)), both in [-1, 1]."""
        rgb = photos.unflatten(1, (-1, 3))
        lab = rgb_to_lab(rgb.flatten(0, 1).float() / 255)
        frames = to_lightness(lab), lab[:, 1:] / self.network.ab_gain
        lightness, ab = (each.unflatten(0, rgb.shape[:2]) for each in frames)
        return lightness, ab

    def statistics(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The mean colour, in Lab units."""
        a, b = self.network.ab_gain * batch[1].mean(dim=(0, 1, 3, 4))
        return {"mean a": a, "mean b": b}

    def samples(self, generator: Any, device: str) -> Image.Image:
        """Input, truth and output of moved photographs: the first, middle and last frame."""
        draw, rows = random.Random(0), []  # the same moves each time
        for photo in self.photos:
            frames = self.view.over(photo, self.network.resolution, draw)
            ab = colour(generator.eval(), frames)
            pictures = []
            for place in (0, len(frames) // 2, len(frames) - 1):
                truth, colours = frames[place], ab[place : place + 1]
                pictures += [paint(truth, colours, strength=0), truth, paint(truth, colours)]
            rows.append(np.concatenate([np.asarray(each) for each in pictures], axis=1))
        return Image.fromarray(np.concatenate(rows))

    def measure(self, folder: Path, split: str, device: str) -> tuple[dict[str, Any], ...]:
        """Flicker and errors on the clips held back, beside the variant that it started from."""
        generator = weights.load(folder, STARTS).to(device)
        methods: dict[str, Callable[[Frames], Tensor]] = {
            "this variant": partial(colour, generator),
            "this variant, each frame alone": partial(colour, generator, together=1),
        }
        if self.start:
            start = weights.load(hub.resolve(self.start).folder, STARTS).to(device)
            name = f"`{public_words([self.start])[0]}`"
            if isinstance(start, Fusion):
                name, start = f"{name}, each frame alone", _Alone(start)
            methods[name] = partial(colour, start)
        methods["grey (ab = 0)"] = lambda frames: torch.zeros(len(frames), 2, 1, 1)
        scenes = list(self.source.held_back())
        if not scenes:  # of a stream, whose clips are not known before
            raise DataError(f"--hold_back {' '.join(self.source.hold_back)}: no such clip came.")
        names = list(dict.fromkeys(name for name, _ in scenes))
        table = {
            "about": f"On {sum(len(frames) for _, frames in scenes)} frames of the clips held back "
            f"from training ({', '.join(names)}), means over the clips, frames at their own size. "
            "Flicker is how far ab changes along the optical flow from one frame to the next; a "
            "film of little colour flickers little, therefore the column beside.",
            "heads": HEADS,
            "rows": [[name, *_judge(method, scenes)] for name, method in methods.items()],
        }
        places = [each for each in (self.source.dataset, self.source.folder) if each]
        facts = {"name": " ".join(public_words(places)), "split": split, "clips": names}
        return facts, {"tables": [table]}


@torch.inference_mode()
def colour(generator: Any, frames: Frames, *, together: int | None = None) -> Tensor:
    """ab of frames of one size, in Lab units (T, 2, h, w), as many `together` as are taken.

    A quarter of the frames is seen twice, at the end of one window and the beginning of the next;
    what is said of them fades from the one to the other.
    """
    config = generator.config
    small = [np.asarray(fit(frame, config.resolution)) for frame in frames]
    levels = torch.from_numpy(np.stack(small)).permute(3, 0, 1, 2)
    lightness = lightness_of(levels)[:, None] / 50 - 1  # (T, 1, h, w)
    device = next(generator.parameters()).device
    length = together or config.frames
    shared = length // 4
    ab = lightness.new_zeros(len(lightness), 2, *lightness.shape[2:])
    for start in range(0, max(1, len(lightness) - shared), length - shared):
        part = lightness[start : start + length]
        said = generator(part[None].to(device))[0].cpu()
        if start:
            weight = torch.arange(1, shared + 1).view(-1, 1, 1, 1) / (shared + 1)
            said[:shared] = ab[start : start + shared].lerp(said[:shared], weight)
        ab[start : start + length] = said
    return ab * config.ab_gain


class _Alone(nn.Module):
    """A network of photos called as one of clips."""

    def __init__(self, network: Fusion) -> None:
        super().__init__()
        self.network = network
        self.config = FlowChroma.Config(**asdict(network.config))

    def forward(self, clips: Tensor) -> Tensor:
        return self.network(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])


def _judge(method: Callable[[Frames], Tensor], scenes: Sequence[Scene]) -> list[str]:
    """The figures under `HEADS`, means over the clips."""
    figures = [_judge_scene(method(frames), frames) for _, frames in scenes]
    return ["" if isnan(mean) else f"{mean:.2f}" for mean in map(fmean, zip(*figures, strict=True))]


@torch.inference_mode()
def _judge_scene(ab: Tensor, frames: Frames) -> tuple[float, ...]:
    lab = torch.cat([rgb_to_lab(to_tensor(frame)) for frame in frames])
    greys = [grey(each) for each in to_lightness(lab)[:, 0].numpy()]
    painted = [paint(frame, each[None]) for frame, each in zip(frames, ab, strict=True)]
    pairs = [
        (np.asarray(truth), np.asarray(result))
        for truth, result in zip(frames, painted, strict=True)
    ]
    large = F.interpolate(ab, lab.shape[-2:], mode="bilinear")
    given, true = (
        flicker(greys, [*colors.permute(0, 2, 3, 1).contiguous().numpy()])
        for colors in (large, lab[:, 1:])
    )
    ratio = given / max(true, 1e-6)
    vivid, vivid_truth = (
        fmean(metrics.colorfulness(pair[which]) for pair in pairs) for which in (1, 0)
    )
    colour_ratio = vivid / max(vivid_truth, 1e-6)
    return (
        ratio,
        ratio / colour_ratio if colour_ratio > 0.01 else nan,
        fmean(metrics.ab_rmse(*pair) for pair in pairs),
        fmean(metrics.ciede2000(*pair) for pair in pairs),
        colour_ratio,
    )
