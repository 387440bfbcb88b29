"""Photos in, photos in colour out."""

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from colorhub import cards, hub, weights
from colorhub.color import lab_to_levels, lightness_of, rgb_to_lab, to_lightness
from colorhub.errors import OptionError
from colorhub.generators import Generator, MobileUNet
from colorhub.hub import Variant, resolve
from colorhub.layers import channels_last
from colorhub.photos import Photo, open_photo

STRIP = 1 << 17  # pixels joined at a time: bounds memory, and fits the processor's cache
LONGEST = 4  # the network's long side is at most so many times its short one


class Colorizer:
    """A variant ready to colour photos."""

    def __init__(
        self, generator: Generator, *, device: str = "auto", variant: Variant | None = None
    ) -> None:
        self.device = pick_device(device)
        self.generator = channels_last(generator).to(self.device).eval()
        self.variant = variant  # where it was loaded from

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "auto",
        token: str | bool | None = None,
    ) -> "Colorizer":
        """Load a variant: a bundled name, a folder, or a Hub repository `owner/name[@revision]`.

        `device` is "auto" (CUDA, then MPS, then the CPU), "cpu", "cuda" or "mps". Loading is
        strict; raises NotFoundError, HubError, VariantError or OptionError, each with its remedy.
        """
        variant = resolve(name, revision=revision, token=token)
        return cls(weights.load(variant.folder), device=device, variant=variant)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the variant's folder: weights in fp16, configuration, and a card.

        The files that came with a loaded variant (card, figures, log, samples) are kept.
        """
        self._save(Path(folder), Path(folder).resolve().name)

    def _save(self, folder: Path, name: str) -> None:
        mean_ab = origin = None
        if self.variant is not None:
            origin = self.variant.folder
            mean_ab = weights.read_config(self.variant.folder)["mean_ab"]
            hub.copy_papers(self.variant, folder)
        weights.save(self.generator, folder, mean_ab=mean_ab)
        cards.write(folder, name=name, origin=origin)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool = False,
        token: str | bool | None = None,
    ) -> str:
        """Publish the variant, tagged `revision` if given; returns the page's address."""
        with tempfile.TemporaryDirectory() as folder:
            self._save(Path(folder), repo_id)
            return hub.publish(folder, repo_id, revision=revision, private=private, token=token)

    @torch.inference_mode()
    def __call__(self, lightness: Tensor, *, seed: int = 0) -> Tensor:
        """Lightness (N, 1, H, W) in [-1, 1] to ab (N, 2, H, W) in [-1, 1], on the CPU.

        Variants with noise draw it from `seed`: the same seed, the same colours. Of those with
        alternatives seed 0 gives the likeliest colours, the next seeds one alternative each, and
        then all over again. If the accelerator runs out of memory the work moves to the CPU, with
        a warning.
        """
        if self.has_alternatives and not 0 <= seed < 2**63:
            raise OptionError(f"seed is {seed}; it must be 0 or more, and below 2^63.")
        extra: dict[str, Any] = {}
        if isinstance(self.generator, MobileUNet):
            extra["choice"] = seed % (self.generator.config.alternatives + 1)
        elif noise_dim := getattr(self.generator.config, "noise_dim", 0):
            source = torch.Generator().manual_seed(seed)
            extra["noise"] = torch.randn(len(lightness), noise_dim, generator=source)
        return self._run(lambda lightness: self.generator(lightness, **extra), lightness)

    def _run(self, network: Callable[[Tensor], Tensor], lightness: Tensor) -> Tensor:
        try:
            return self._forward(network, lightness)
        except RuntimeError as error:  # torch.OutOfMemoryError is one; MPS has none of its own
            if "out of memory" not in str(error):
                raise
            warnings.warn(
                f"{self.device} is out of memory: colouring on the CPU instead.", stacklevel=2
            )
            self.device = torch.device("cpu")
            self.generator.to(self.device)
            return self._forward(network, lightness)

    def _forward(self, network: Callable[[Tensor], Tensor], lightness: Tensor) -> Tensor:
        return network(lightness.to(self.device, memory_format=torch.channels_last)).float().cpu()

    def colorize(
        self,
        photo: Photo,
        *,
        strength: float = 1.0,
        seed: int = 0,
        ab_gain: float | None = None,
    ) -> Image.Image:
        """The photo in colour: PIL RGB, upright, at the photo's own size.

        Takes whatever `open_photo` takes; a colour photo is treated as its lightness. The result
        has the photo's own lightness. `strength` scales the colours: 0 gives the grey photo, 1
        what the network says. `seed` chooses among a variant's colourings, see `__call__`.
        `ab_gain` are the Lab units that an output of 1 stands for, by default those the variant
        was trained with; the thesis takes 256 instead of 128 for stronger colours. Raises
        PhotoError for a photo that cannot be read, OptionError for a strength below 0 or a gain
        not above 0.
        """
        opened = open_photo(photo)
        return paint(opened, self.predict(opened, seed=seed, ab_gain=ab_gain), strength=strength)

    def predict(
        self,
        photo: Image.Image,
        *,
        seed: int = 0,
        resolution: int | None = None,
        ab_gain: float | None = None,
    ) -> Tensor:
        """A photo's colours at network size: ab (1, 2, h, w) in Lab units.

        The network sees the photo as `fit` gives it, at `resolution` pixels of the short side, by
        default the variant's own; `ab_gain` as in `colorize`. Raises OptionError for a resolution
        below 1, or a gain that is not above 0.
        """
        gain = self.generator.config.ab_gain if ab_gain is None else ab_gain
        if not 0 < gain < float("inf"):
            raise OptionError(f"ab_gain is {gain}; it must be above 0, such as 128 or 256.")
        return self(self._lightness(photo, resolution), seed=seed) * gain

    @property
    def has_alternatives(self) -> bool:
        """Whether another seed gives other colours."""
        config = self.generator.config
        return getattr(config, "noise_dim", 0) + getattr(config, "alternatives", 0) > 0

    @property
    def knows_uncertainty(self) -> bool:
        """Whether `uncertainty` can be asked: the variant predicts a distribution of colours."""
        return getattr(self.generator.config, "tells_uncertainty", False)

    @torch.inference_mode()
    def uncertainty(self, photo: Photo) -> Tensor:
        """How unsure the colours of a photo are: (1, 1, h, w) in Lab units, at network size.

        The standard deviation of ab, both channels together: about how far off a colour may be.
        Raises PhotoError for a photo that cannot be read, OptionError for a variant that does
        not know (see `knows_uncertainty`).
        """
        generator = self.generator
        if not (isinstance(generator, MobileUNet) and self.knows_uncertainty):
            raise OptionError(
                f"{type(generator).__name__} does not say how sure it is: choose a variant of "
                "which `knows_uncertainty` is true, such as natural."
            )
        lightness = self._lightness(open_photo(photo))
        return self._run(generator.uncertainty, lightness) * generator.config.ab_gain

    def _lightness(self, photo: Image.Image, resolution: int | None = None) -> Tensor:
        if resolution is None:
            resolution = self.generator.config.resolution
        return to_lightness(rgb_to_lab(to_tensor(fit(photo, resolution))))


def fit(photo: Image.Image, resolution: int) -> Image.Image:
    """The photo with its short side brought to `resolution` pixels, its aspect ratio kept.

    Of a photo longer than 4:1 the long side is brought to 4 times the resolution instead.
    """
    if resolution < 1:
        raise OptionError(f"resolution is {resolution}; it must be 1 pixel or more.")
    short, long = min(photo.size), max(photo.size)
    scale = min(resolution / short, LONGEST * resolution / long)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    return photo.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)


def paint(photo: Image.Image, ab: Tensor, *, strength: float = 1.0) -> Image.Image:
    """Join a picture's own lightness with colours of any size: `join` for PIL "L" or "RGB"."""
    planes = join(to_planes(photo), ab, strength=strength)
    size = (planes.shape[2], planes.shape[1])
    bands = [Image.frombuffer("L", size, plane, "raw", "L", 0, 1) for plane in planes]
    return Image.merge("RGB", bands)


@torch.inference_mode()
def join(levels: np.ndarray, ab: Tensor, *, strength: float = 1.0) -> np.ndarray:
    """Join a photo's own lightness with colours of any size, strip by strip.

    `levels` are sRGB, (1 or 3, H, W) of uint8 or uint16; `ab` is (1, 2, h, w) in Lab units and is
    brought to the photo's size by bicubic interpolation. Colours outside of sRGB lose chroma,
    never lightness or hue. Returns sRGB levels (3, H, W) of the same depth. Raises OptionError
    for a strength below 0.
    """
    if not (np.isfinite(strength) and strength >= 0):
        raise OptionError(f"strength is {strength}; it must be 0 (grey), 1 (as predicted) or more.")
    _, height, width = levels.shape
    down = _bicubic(ab.shape[2], height)  # (H, h)
    across = (ab[0] * strength) @ _bicubic(ab.shape[3], width).T  # (2, h, W)
    result = np.empty((3, height, width), levels.dtype)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        strip = torch.from_numpy(np.ascontiguousarray(levels[:, top : top + rows]))
        weights = down[top : top + rows]
        near = weights.any(dim=0).nonzero()  # rows of ab that have a part in this strip
        first, last = int(near[0]), int(near[-1]) + 1
        colors = torch.matmul(weights[:, first:last], across[:, first:last])
        joined = lab_to_levels(lightness_of(strip), colors, strip.dtype)
        result[:, top : top + rows] = joined.numpy()
    return result


def pick_device(device: str) -> torch.device:
    """A device by name; "auto" is CUDA, then MPS, then the CPU. Raises OptionError if not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next((name for name, there in available.items() if there), "cpu")
    kind = device.split(":")[0]
    if kind not in ("cpu", *available):
        raise OptionError(f"Unknown device {device!r}: choose auto, cpu, cuda or mps.")
    if not available.get(kind, True):
        raise OptionError(f"This machine has no {device} device: choose auto or cpu.")
    return torch.device(device)


def _bicubic(small: int, large: int) -> Tensor:
    """Weights (large, small) of a bicubic enlargement: it is separable, so two products do it."""
    pulses = torch.eye(small)[None, None]  # in rows: torch smooths single columns wrongly
    smooth = large < small  # a photo smaller than the network's size
    return F.interpolate(pulses, size=(small, large), mode="bicubic", antialias=smooth)[0, 0].T


def to_planes(photo: Image.Image) -> np.ndarray:
    """PIL "L" or "RGB" to levels (1 or 3, H, W), uint8."""
    return np.stack([np.asarray(band) for band in photo.split()])


def to_tensor(photo: Image.Image) -> Tensor:
    """PIL to sRGB (1, 3, H, W) in [0, 1]."""
    array = np.asarray(photo.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(array).permute(2, 0, 1)[None]
