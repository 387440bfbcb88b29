"""Speed and memory, side by side in one run.

    python benchmarks/run.py [--dataset_name data/photos] [--steps 6]

Three tables: the data pipeline against the training step, the training step in fp32 and bf16, and
a 12-megapixel photo's way from JPEG to coloured JPEG by stage. Figures are of this machine at this
moment; read the ratios.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
import tyro
from accelerate.state import AcceleratorState, GradientState, PartialState
from PIL import Image
from skimage import data

from colorhub import Colorizer, training
from colorhub.batches import PhotoBatches
from colorhub.colorizer import paint
from colorhub.data import open_rows
from colorhub.photos import open_photo, save_photo

TRAIN = Path(__file__).parent.parent / "train"


@dataclass(frozen=True)
class Config:
    dataset_name: str | None = None
    """Photos for the pipeline; by default pieces of the photographs bundled with scikit-image."""
    steps: int = 2
    """Training steps that a figure is the median of, after one to warm up."""
    rounds: int = 5
    """Colourings that a figure is the median of, after one to warm up."""
    variants: tuple[str, ...] = ("cwgan", "autoencoder")
    """Variants to colour the photo with."""


def make_photos(folder: Path) -> str:
    """Eighty JPEGs of 256 x 256, as different as four photographs allow."""
    for name in ("astronaut", "coffee", "retina", "hubble_deep_field"):
        photo = Image.fromarray(getattr(data, name)()[..., :3])
        for i in range(20):
            left, top = 7 * i % (photo.width - 256), 5 * i % (photo.height - 256)
            photo.crop((left, top, left + 256, top + 256)).save(folder / f"{name}{i}.jpg")
    return str(folder)


def pipeline_rate(dataset: str, workers: int, batch: int = 16) -> float:
    """Photos a second out of the data pipeline alone, at 224 px."""
    rows = open_rows(dataset)
    rates = []
    for epoch in range(3):
        photos = PhotoBatches(rows, resolution=224, batch_size=batch, seed=0, workers=workers)
        photos.set_epoch(epoch)
        batches = iter(photos.loader())
        next(batches)  # the workers' start is not the pipeline's speed
        start, seen = time.perf_counter(), 0
        for each in batches:
            seen += len(each.rgb)
            if seen >= 400:
                break
        rates.append(seen / (time.perf_counter() - start))
    return median(rates)


class EnoughError(Exception):
    """The benchmark has seen all the steps it wants."""


def step_rate(script: str, precision: str, dataset: str, steps: int) -> float:
    """Photos a second of a script's own update at its default width, on one batch in memory."""
    spec = importlib.util.spec_from_file_location(f"bench_{script}", TRAIN / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    times = []

    class Timed(training.Run):
        def _agreed_batches(self) -> Iterator[torch.Tensor]:
            rgb = torch.randint(0, 256, (16, 3, 224, 224), dtype=torch.uint8)
            for _ in range(steps + 1):
                times.append(time.perf_counter())
                yield rgb
            times.append(time.perf_counter())
            raise EnoughError

    module.Run = Timed  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as output:
        words = f"--dataset_name {dataset} --train_batch_size 16 --report_to none"
        config = tyro.cli(
            module.Config,
            args=shlex.split(f"{words} --output_dir {output}"),
            use_underscores=True,
            config=(tyro.conf.OmitArgPrefixes,),
        )
        os.environ["ACCELERATE_MIXED_PRECISION"] = precision
        with contextlib.suppress(EnoughError):
            module.train(config)
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()
    return 16 / median(b - a for a, b in pairwise(times[1:]))


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
        dataset = config.dataset_name or make_photos(Path(folder))
        pipeline = {workers: pipeline_rate(dataset, workers) for workers in (0, 1, 2)}
        print(f"\n{torch.get_num_threads()} threads, torch {torch.__version__}")
        print("\n| data pipeline at 224 px | photos/s |\n|---|---|")
        for workers, rate in pipeline.items():
            print(f"| {workers} workers | {rate:.0f} |")
        print(
            "\n| training step at 224 px, batch 16, default width | fp32 | bf16 | bf16 : fp32",
            end="",
        )
        print(" | pipeline (1 worker) : bf16 step |\n|---|---|---|---|---|")
        for script in ("cwgan", "autoencoder"):
            full, half = (step_rate(script, each, dataset, config.steps) for each in ("no", "bf16"))
            print(f"| {script}, photos/s | {full:.2f} | {half:.2f} | {half / full:.2f} ", end="")
            print(f"| {pipeline[1] / half:.0f} |")

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
