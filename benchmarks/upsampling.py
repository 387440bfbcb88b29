"""Ways to bring colours of a network's size to a photo's, side by side in one run.

    python benchmarks/upsampling.py --dataset_name data/photos --split validation

True colours are averaged over cells of 4 x 4 to 16 x 16 pixels, enlarged again and joined with the
photo's own lightness. Photos are those of the data set and scikit-image's. The times are of this
machine at this moment; read the ratios. What was found is in docs/upsampling.md.
"""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from safetensors.torch import load_file
from skimage import data
from torch import Tensor
from upsampler import Sharpener, apply

from colorhub import Colorizer
from colorhub.color import lab_to_rgb, rgb_to_lab
from colorhub.data import open_rows
from colorhub.photos import open_photo

FIGURES = ("PSNR, dB ↑", "ab RMSE ↓", "edges ↓")
Figures = dict[str, tuple[float, float, float]]  # FIGURES by method
# ab (1, 2, h, w), L (1, 1, h, w) and L (1, 1, H, W) to ab (1, 2, H, W), all in Lab units.
Method = Callable[[Tensor, Tensor, Tensor], Tensor]
SAMPLES = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "retina",
    "stereo_motorcycle",
    "immunohistochemistry",
)


@dataclass(frozen=True)
class Config:
    dataset_name: str
    """Hub id or local folder of the photos to measure on."""
    split: str = "validation"
    """Split to measure on."""
    learned: Path | None = None
    """Weights of benchmarks/upsampler.py, to measure it as well."""
    photos: int = 93
    """Photos of the split, evenly over it; scikit-image's seven come on top."""
    factors: tuple[int, ...] = (4, 8, 16)
    """Side of the cells that the colours are averaged over, in pixels."""
    variant: str | None = "natural"
    """Variant whose predicted colours are enlarged as well."""
    resolutions: tuple[int, ...] = (64, 192)
    """Short sides at which it predicts."""
    network: tuple[int, int] = (192, 256)
    """Size of the colours that are timed, height and width."""
    megapixels: float = 12.0
    """Size of the photo that is timed; 0 times nothing."""
    rounds: int = 5
    """Enlargements that a time is the median of, after one to warm up."""
    threads: int = 1
    """Threads of torch."""


@functools.cache
def weights(small: int, large: int, mode: str) -> Tensor:
    """Weights (large, small) of an enlargement along one axis."""
    if mode != "lanczos":
        pulses = torch.eye(small)[None, None]
        return F.interpolate(pulses, size=(small, large), mode=mode)[0, 0].T.contiguous()
    places = (torch.arange(large) + 0.5) * small / large - 0.5
    cells = places.floor().long()[:, None] + torch.arange(-2, 4)
    kernel = torch.sinc(places[:, None] - cells) * torch.sinc((places[:, None] - cells) / 3)
    kernel /= kernel.sum(dim=1, keepdim=True)
    return torch.zeros(large, small).scatter_add_(1, cells.clamp(0, small - 1), kernel)


def enlarge(x: Tensor, large: Tensor, mode: str = "bicubic") -> Tensor:
    """x (1, C, h, w) at the size of `large`. Of the rows' weights only the band that is not 0 is
    used, as `paint` does it."""
    height, width = large.shape[2:]
    across = x[0] @ weights(x.shape[3], width, mode).T
    down = weights(x.shape[2], height, mode)
    result = x.new_empty(x.shape[1], height, width)
    for top in range(0, height, 32):
        used = down[top : top + 32].any(dim=0).nonzero()
        band = slice(int(used[0]), int(used[-1]) + 1)
        result[:, top : top + 32] = down[top : top + 32, band] @ across[:, band]
    return result[None]


def interpolated(mode: str) -> Method:
    return lambda ab, small, large: enlarge(ab, large, mode)


def nearest(ab: Tensor, small: Tensor, large: Tensor) -> Tensor:
    return F.interpolate(ab, large.shape[2:], mode="nearest-exact")


def guided(ab: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """The fast guided filter (He & Sun 2015): a line ab = slope * L + offset a cell."""
    slope, average_ab, average = local_lines(ab, small, _box, 40.0)
    slope, offset = _box(slope), _box(average_ab - slope * average)
    lines = enlarge(torch.cat((slope, offset), dim=1), large, "bilinear")
    return torch.addcmul(lines[:, 2:], lines[:, :2], large)


def joint_bilateral(ab: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Kopf et al. 2007: means of 5 x 5 cells, by distance (0.5 cells) and by L (20 units)."""
    rows, columns = (
        (torch.arange(after) + 0.5) * before / after - 0.5
        for before, after in zip(small.shape[2:], large.shape[2:], strict=True)
    )
    cells = torch.cat((ab, small), dim=1)
    total, sums = torch.zeros_like(large), large.new_zeros(1, 2, *large.shape[2:])
    for down in range(-2, 3):
        for right in range(-2, 3):
            y, x = rows.round() + down, columns.round() + right
            near = -2 * ((rows - y)[:, None] ** 2 + (columns - x) ** 2)
            y, x = y.clamp(0, small.shape[2] - 1), x.clamp(0, small.shape[3] - 1)
            cell = cells[:, :, y.long()][:, :, :, x.long()]
            weight = torch.exp(near - (large - cell[:, 2:]) ** 2 / 800) + 1e-9 * torch.exp(near)
            total += weight
            sums += weight * cell[:, :2]
    return sums / total


def local_slopes(ab: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Bicubic, and what L tells within a cell by the covariance of ab and L around it."""
    fine, coarse = (local_lines(ab, small, mean_of, 80.0, trust=True)[0] for mean_of in SCALES)
    return apply(enlarge(torch.cat((ab, (fine + coarse) / 2, small), 1), large), large)


def local_slopes_once(ab: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """As `local_slopes`, on one scale."""
    slope = local_lines(ab, small, SCALES[0], 80.0, trust=True)[0]
    return apply(enlarge(torch.cat((ab, slope, small), 1), large), large)


def learned(weights: Path) -> Method:
    """What benchmarks/upsampler.py has taught."""
    network = Sharpener()
    network.load_state_dict({name: half.float() for name, half in load_file(weights).items()})
    return lambda ab, small, large: apply(enlarge(network(ab, small), large), large)


def local_lines(
    ab: Tensor,
    small: Tensor,
    mean_of: Callable[[Tensor], Tensor],
    ridge: float,
    trust: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes of ab over L in windows, and both means; `trust` is the squared correlation."""
    moments = mean_of(torch.cat((ab, small, ab * small, ab * ab, small * small), dim=1))
    average_ab, average, products, squares_ab, squares = moments.split((2, 1, 2, 2, 1), dim=1)
    covariance = products - average_ab * average
    variance = (squares - average**2).clamp(min=0)
    slope = covariance / (variance + ridge)
    if trust:
        spread = (squares_ab - average_ab**2).clamp(min=0).sum(dim=1, keepdim=True)
        explained = covariance.square().sum(dim=1, keepdim=True) / (variance * spread + 0.01)
        slope = slope * explained.clamp(max=1)
    return slope, average_ab, average


def _box(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _gaussian(x: Tensor, deviation: float, radius: int) -> Tensor:
    kernel = torch.exp(-((torch.arange(-radius, radius + 1) / deviation) ** 2) / 2)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.pad(x, (radius, radius, radius, radius), mode="replicate")
    x = F.conv2d(x, kernel, groups=x.shape[1])
    return F.conv2d(x, kernel.transpose(2, 3), groups=x.shape[1])


SCALES = (
    functools.partial(_gaussian, deviation=0.7, radius=1),
    functools.partial(_gaussian, deviation=1.5, radius=3),
)
METHODS: dict[str, Method] = {
    "bicubic": interpolated("bicubic"),
    "nearest": nearest,
    "bilinear": interpolated("bilinear"),
    "Lanczos3": interpolated("lanczos"),
    "guided filter": guided,
    "joint bilateral": joint_bilateral,
    "local slopes, 3 x 3 cells": local_slopes_once,
    "local slopes, two scales": local_slopes,
}


def photos(config: Config) -> Iterator[np.ndarray]:
    """uint8 (H, W, 3); grey ones, which would be right to the bit, are left out."""
    rows = open_rows(config.dataset_name, split=config.split)
    for index in np.linspace(0, len(rows) - 1, min(config.photos, len(rows))).round():
        photo = np.asarray(open_photo(rows[int(index)]["image"]["bytes"]).convert("RGB"))
        if np.ptp(photo, axis=2).max() > 8:
            yield photo
    for name in SAMPLES:
        sample = getattr(data, name)()
        yield np.asarray(sample[0] if isinstance(sample, tuple) else sample)


def strong_edges(lightness: Tensor) -> Tensor:
    """Where the Sobel gradient of L is in its top tenth."""
    sobel = torch.tensor(((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)))
    padded = F.pad(lightness, (1, 1, 1, 1), mode="replicate")
    gradient = F.conv2d(padded, torch.stack((sobel, sobel.T))[:, None]).square().sum(1, True)
    return gradient >= np.quantile(gradient.numpy(), 0.9)


def measure(photo: np.ndarray, factor: int) -> Figures:
    """What enlarging the photo's true colours by `factor` comes to."""
    height, width = (side // factor * factor for side in photo.shape[:2])
    levels, lab = load(photo[:height, :width])
    small = F.avg_pool2d(lab, factor)
    return compare(levels, lab, small[:, 1:], small[:, :1])


def measure_prediction(photo: np.ndarray, colorizer: Colorizer, resolution: int) -> Figures:
    """As `measure`, of colours that a network has predicted at `resolution`."""
    levels, lab = load(photo)
    ab = colorizer.predict(Image.fromarray(photo), resolution=resolution)
    small = F.interpolate(lab[:, :1], ab.shape[2:], mode="area")
    return compare(levels, lab, ab, small)


def load(photo: np.ndarray) -> tuple[Tensor, Tensor]:
    """Levels (1, 3, H, W) from 0 to 255, and Lab."""
    levels = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
    return levels, rgb_to_lab(levels / 255)


def compare(levels: Tensor, lab: Tensor, ab: Tensor, small: Tensor) -> Figures:
    """PSNR of RGB, and RMSE of ab everywhere and across strong edges, by method."""
    lightness, edges = lab[:, :1], strong_edges(lab[:, :1])
    figures = {}
    for name, method in METHODS.items():
        colors = method(ab, small, lightness)
        error = (colors - lab[:, 1:]).square().mean(dim=1, keepdim=True)
        rgb = lab_to_rgb(torch.cat((lightness, colors), dim=1)).clamp(0, 1).mul(255).round()
        noise = (rgb - levels).square().mean()
        psnr = float(10 * torch.log10(255**2 / noise))
        figures[name] = (psnr, float(error.mean().sqrt()), float(error[edges].mean().sqrt()))
    return figures


def seconds(method: Method, config: Config) -> float:
    """Median time of one enlargement to a photo of `megapixels`."""
    height, width = config.network
    scale = (config.megapixels * 1e6 / (height * width)) ** 0.5
    sample = Image.fromarray(data.retina())
    small, large = (
        rgb_to_lab(torch.from_numpy(np.array(sample.resize(size))).permute(2, 0, 1)[None] / 255)
        for size in ((width, height), (round(width * scale), round(height * scale)))
    )
    times = []
    for _ in range(config.rounds + 1):
        start = time.perf_counter()
        method(small[:, 1:], small[:, :1], large[:, :1])
        times.append(time.perf_counter() - start)
    return median(times[1:])


def table(columns: dict[str, list[Figures]], more: dict[str, list[str]]) -> None:
    """Print methods x columns, figures averaged over photos; `more` are columns by their heads."""
    heads = [f"{figure}, {column}" for column in columns for figure in FIGURES]
    print("\n| | " + " | ".join((*heads, *more)) + " |")
    print("|---" * (1 + len(heads) + len(more)) + "|")
    for number, name in enumerate(METHODS):
        cells = [
            f"{mean(figures[name][index] for figures in measured):.2f}"
            for measured in columns.values()
            for index in range(len(FIGURES))
        ]
        cells += [column[number] for column in more.values()]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


@torch.inference_mode()
def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    if config.learned:
        METHODS["learned slopes"] = learned(config.learned)
    everything = list(photos(config))
    print(f"{len(everything)} photos, {config.threads} threads, torch {torch.__version__}")
    more = {}
    if config.megapixels:
        times = [seconds(method, config) for method in METHODS.values()]
        print(f"Bicubic, {config.megapixels:g} megapixels: {times[0] * 1000:.0f} ms")
        more = {"time": [f"{each / times[0]:.1f}" for each in times]}
    columns = {
        f"{each} x": [measure(photo, each) for photo in everything] for each in config.factors
    }
    table(columns, more)
    if config.variant:
        colorizer = Colorizer.from_pretrained(config.variant, device="cpu")
        print(f"\nColours predicted by {config.variant}:")
        columns = {
            f"{each} px": [measure_prediction(photo, colorizer, each) for photo in everything]
            for each in config.resolutions
        }
        table(columns, {})


if __name__ == "__main__":
    main(tyro.cli(Config, use_underscores=True))
