"""Photos in, photos in colour out."""

import os
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from colorhub import cards, hub, weights
from colorhub.color import lab_to_levels, lightness_of
from colorhub.decoding import read
from colorhub.errors import OptionError
from colorhub.generators import Generator, MobileUNet
from colorhub.hub import Variant, resolve
from colorhub.layers import channels_last
from colorhub.originals import Original, picture_of, planes_of
from colorhub.photos import Photo
from colorhub.results import write

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
        self._batch: int | None = None  # the most photos that fit into the accelerator at once

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

        Variants with noise draw it from `seed`: the same seed, the same colours, for each photo.
        Of those with alternatives seed 0 gives the likeliest colours, the next seeds one
        alternative each, and then all over again. If the accelerator runs out of memory, batches
        are halved and at last the work moves to the CPU, with a warning each.
        """
        if self.has_alternatives and not 0 <= seed < 2**63:
            raise OptionError(f"seed is {seed}; it must be 0 or more, and below 2^63.")
        extra: dict[str, Any] = {}
        if isinstance(self.generator, MobileUNet):
            extra["choice"] = seed % (self.generator.config.alternatives + 1)
        elif noise_dim := getattr(self.generator.config, "noise_dim", 0):
            source = torch.Generator().manual_seed(seed)
            noise = torch.randn(1, noise_dim, generator=source)
            return self._run(
                lambda some: self.generator(some, noise.expand(len(some), -1)), lightness
            )
        return self._run(lambda some: self.generator(some, **extra), lightness)

    def _run(self, network: Callable[[Tensor], Tensor], lightness: Tensor) -> Tensor:
        most = min(self._batch or len(lightness), len(lightness))
        try:
            return torch.cat([self._forward(network, some) for some in lightness.split(most)])
        except RuntimeError as error:  # torch.OutOfMemoryError is one; MPS has none of its own
            if "out of memory" not in str(error):
                raise
        if most > 1:
            if self._batch is None:
                warnings.warn(
                    f"{self.device} is out of memory: colouring fewer than {most} photos at once.",
                    stacklevel=3,
                )
            self._batch = most // 2
            return self._run(network, lightness)
        warnings.warn(
            f"{self.device} is out of memory: colouring on the CPU instead.", stacklevel=3
        )
        self.device = torch.device("cpu")
        self.generator.to(self.device)
        return torch.cat([self._forward(network, photo) for photo in lightness.split(1)])

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
        """The photo in colour: PIL RGB, upright, at the photo's own size, 8 bits a channel.

        Takes a path, a file's bytes, a PIL image or an array, as `open_photo` does; a colour photo
        is treated as its lightness, which the result has, too. `strength` scales the colours: 0
        gives the grey photo, 1 what the network says. `seed` chooses among a variant's
        colourings, see `__call__`. `ab_gain` are the Lab units that an output of 1 stands for, by
        default those the variant was trained with; the thesis takes 256 instead of 128 for
        stronger colours. Raises PhotoError for a photo that cannot be read, OptionError for a
        strength below 0 or a gain not above 0.
        """
        opened = read(photo).picture()
        return paint(opened, self.predict(opened, seed=seed, ab_gain=ab_gain), strength=strength)

    def colorize_file(
        self,
        photo: Photo,
        output: str | os.PathLike[str],
        *,
        strength: float = 1.0,
        seed: int = 0,
        ab_gain: float | None = None,
        salvage: bool = False,
        profile: str = "srgb",
        note: bool = False,
    ) -> tuple[str, ...]:
        """Colour a photo into a file that has all that the photo's own file has.

        Kept are the size, 16 bits a channel, transparency, EXIF, XMP, IPTC and resolution, as far
        as the output's format can hold them: the warnings that come back say what it cannot, and
        whatever else was odd. Orientation is normalised, thumbnails are dropped. The result is
        tagged with a colour profile: "srgb", "p3" or an ICC file. With `salvage` a damaged photo
        is coloured as far as it goes; with `note` XMP says which variant coloured it. The rest as
        in `colorize`.
        """
        original = read(photo, salvage=salvage)
        ab = self.predict(original, seed=seed, ab_gain=ab_gain)
        levels = join(original.levels, ab, strength=strength, bits=original.bits)
        told = self.note if note else None
        warnings = write(output, levels, original, profile=profile, note=told)
        return original.warnings + warnings

    @property
    def note(self) -> str:
        """What coloured a photo, for its metadata: "colorized by <variant>@<revision>".

        The revision of a variant on this machine is the beginning of its weights' SHA-256.
        """
        if self.variant is None:
            return f"colorized by {type(self.generator).__name__}"
        revision = self.variant.revision
        if revision is None:
            revision = weights.read_config(self.variant.folder)["weights_sha256"][:12]
        return f"colorized by {self.variant.name}@{revision}"

    def predict(
        self,
        photo: Image.Image | Original,
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
        gain = self.gain(ab_gain)
        return self(self.seen(photo, resolution), seed=seed) * gain

    def gain(self, ab_gain: float | None = None) -> float:
        """The Lab units that an output of 1 stands for: those given, or the variant's own.

        Raises OptionError for a gain that is not above 0.
        """
        gain = self.generator.config.ab_gain if ab_gain is None else ab_gain
        if not 0 < gain < float("inf"):
            raise OptionError(f"ab_gain is {gain}; it must be above 0, such as 128 or 256.")
        return gain

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
        return self.uncertainty_of(self.seen(read(photo)))

    @torch.inference_mode()
    def uncertainty_of(self, lightness: Tensor) -> Tensor:
        """The same of what `seen` gives: lightness (N, 1, H, W) to (N, 1, H, W) in Lab units."""
        generator = self.generator
        if not (isinstance(generator, MobileUNet) and self.knows_uncertainty):
            raise OptionError(
                f"{type(generator).__name__} does not say how sure it is: choose a variant of "
                "which `knows_uncertainty` is true, such as natural."
            )
        return self._run(generator.uncertainty, lightness) * generator.config.ab_gain

    def seen(self, photo: Image.Image | Original, resolution: int | None = None) -> Tensor:
        """What the network sees of a photo: lightness (1, 1, h, w) in [-1, 1]."""
        if resolution is None:
            resolution = self.generator.config.resolution
        levels = torch.from_numpy(planes_of(fit(photo, resolution)))
        return lightness_of(levels)[None, None] / 50 - 1


def fit(photo: Image.Image | Original, resolution: int) -> Image.Image:
    """The photo with its short side brought to `resolution` pixels, its aspect ratio kept.

    Of a photo longer than 4:1 the long side is brought to 4 times the resolution instead.
    """
    if resolution < 1:
        raise OptionError(f"resolution is {resolution}; it must be 1 pixel or more.")
    (width, height), (short, long) = photo.size, sorted(photo.size)
    scale = min(resolution / short, LONGEST * resolution / long)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if isinstance(photo, Original):
        return photo.picture(size)
    return photo.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)


def paint(photo: Image.Image, ab: Tensor, *, strength: float = 1.0) -> Image.Image:
    """Join a picture's own lightness with colours of any size: `join` for PIL "L" or "RGB"."""
    return picture_of(join(planes_of(photo), ab, strength=strength))


@torch.inference_mode()
def join(
    levels: np.ndarray, ab: Tensor, *, strength: float = 1.0, bits: int | None = None
) -> np.ndarray:
    """Join a photo's own lightness with colours of any size, strip by strip on all cores.

    `levels` are sRGB, (1 or 3, H, W) of uint8 or uint16; `ab` is (1, 2, h, w) in Lab units and is
    brought to the photo's size by bicubic interpolation. Colours outside of sRGB lose chroma,
    never lightness or hue. Returns sRGB levels (3, H, W) of 8 or 16 `bits`, by default as many as
    came. Raises OptionError for a strength below 0.
    """
    check_strength(strength)
    _, height, width = levels.shape
    down = _bicubic(ab.shape[2], height)  # (H, h)
    across = (ab[0] * strength) @ _bicubic(ab.shape[3], width).T  # (2, h, W)
    used = down.numpy() != 0
    first = used.argmax(1).tolist()
    last = (down.shape[1] - 1 - used[:, ::-1].argmax(1)).tolist()
    depth = {None: levels.dtype, 8: np.uint8, 16: np.uint16}[bits]
    result = torch.from_numpy(np.empty((3, height, width), depth))
    rows = max(1, STRIP // width)

    @torch.inference_mode()  # which each thread has for itself
    def paint_strip(top: int) -> None:
        strip = torch.from_numpy(levels[:, top : top + rows])
        if len(strip) == 3 and torch.equal(strip[0], strip[1]) and torch.equal(strip[1], strip[2]):
            strip = strip[:1]  # grey, which takes less time
        bottom = min(top + rows, height)
        some = slice(first[top], last[bottom - 1] + 1)  # rows of ab that have a part in this strip
        colors = torch.matmul(down[top:bottom, some], across[:, some])
        result[:, top : top + rows] = lab_to_levels(lightness_of(strip), colors, result.dtype)

    on_all_cores(paint_strip, range(0, height, rows))
    return result.numpy()


def on_all_cores(work: Callable[[int], None], places: range) -> None:
    """Do the work of all places, each on one core.

    torch alone spreads every operation over the cores, which brings little where each is short.
    """
    threads = min(torch.get_num_threads(), len(places))
    if threads == 1:
        for place in places:
            work(place)
        return
    # Each thread keeps torch to one core for itself. That is also what torch gives to threads that
    # others start meanwhile, so it is taken back as soon as all ours have it.
    every, started = torch.get_num_threads(), Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        started.wait()

    with ThreadPoolExecutor(threads, initializer=start) as pool:
        done = pool.map(work, places)
        started.wait()
        torch.set_num_threads(every)
        list(done)


def check_strength(strength: float) -> None:
    """Raise OptionError for a strength below 0."""
    if not 0 <= strength < float("inf"):
        raise OptionError(f"strength is {strength}; it must be 0 (grey), 1 (as predicted) or more.")


def own_device(device: str) -> str:
    """This process's own of several GPUs, where a launcher started one process for each."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{int(rank) % torch.cuda.device_count()}"


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


def to_tensor(photo: Image.Image) -> Tensor:
    """PIL to sRGB (1, 3, H, W) in [0, 1]."""
    array = np.asarray(photo.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(array).permute(2, 0, 1)[None]
