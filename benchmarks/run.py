"""Speed and memory of colouring, side by side in one run. For training see training.py.

    python benchmarks/run.py [--variants natural cwgan]

A 12-megapixel photo's way from JPEG to coloured JPEG, by stage. Figures are of this machine at this
moment; read the ratios.
"""

import multiprocessing
import resource
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
import tyro
from PIL import Image
from skimage import data

from colorhub import Colorizer
from colorhub.colorizer import paint
from colorhub.photos import open_photo, save_photo


@dataclass(frozen=True)
class Config:
    rounds: int = 5
    """Colourings that a figure is the median of, after one to warm up."""
    variants: tuple[str, ...] = ("natural", "cwgan", "autoencoder")
    """Variants to colour the photo with."""


def colouring(variant: str, path: Path, rounds: int) -> dict[str, float]:
    """Seconds by stage for one photo, and the process's peak memory in MB."""
    colorizer = Colorizer.from_pretrained(variant)
    stages: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        clock = [time.perf_counter()]
        photo = open_photo(path)
        photo.load()
        clock.append(time.perf_counter())
        ab = colorizer.predict(photo)
        clock.append(time.perf_counter())
        result = paint(photo, ab)
        clock.append(time.perf_counter())
        save_photo(result, path.with_name("result.jpg"))
        clock.append(time.perf_counter())
        for name, (start, end) in zip(STAGES, pairwise(clock), strict=True):
            stages.setdefault(name, []).append(end - start)
    figures = {name: median(times[1:]) for name, times in stages.items()}
    figures["peak MB"] = peak_memory()
    return figures


def peak_memory() -> float:
    """This process's peak resident memory in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would give the parent's peak where that was higher
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


STAGES = ("decode", "network", "chroma and Lab to RGB", "encode")


def main(config: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"\n{torch.get_num_threads()} threads, torch {torch.__version__}")
        path = Path(folder, "photo.jpg")
        photo = Image.fromarray(data.retina()).resize((4000, 3000))
        photo.save(path, quality=95)
        print("\n| 12 megapixels, seconds | " + " | ".join(STAGES) + " | all | peak MB |")
        print("|---" * (len(STAGES) + 3) + "|")
        for variant in config.variants:
            # A process of its own: peak memory is the process's.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                figures = pool.apply(colouring, (variant, path, config.rounds))
            seconds = [figures[name] for name in STAGES]
            cells = [f"{value:.2f}" for value in (*seconds, sum(seconds))]
            print(f"| {variant} | " + " | ".join(cells) + f" | {figures['peak MB']:.0f} |")


if __name__ == "__main__":
    main(tyro.cli(Config, use_underscores=True))
