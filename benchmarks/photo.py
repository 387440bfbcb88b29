"""Speed and memory of colouring photos, by stage, beside the usual way, in one run.

    python benchmarks/photo.py [--megapixels 1 12 48] [--folder 200] [--photo scan.jpg]

The usual way is Pillow for files, and scikit-image in float64 for colours. Figures are of this
machine at this moment; read the ratios. For training see training.py.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro
from PIL import Image
from skimage import data
from skimage.color import lab2rgb, rgb2lab

from colorhub import Colorizer
from colorhub.album import Album, Settings
from colorhub.color import lab_to_levels, lightness_of
from colorhub.colorizer import STRIP, join, on_all_cores
from colorhub.decoding import read
from colorhub.journal import Job
from colorhub.results import write

STAGES = ("decode", "network's input", "network", "join", "encode")
WHOLE = "whole"
USUAL = ("Pillow decodes", "Pillow encodes")
QUALITY = 95


@dataclass(frozen=True)
class Config:
    megapixels: tuple[int, ...] = (1, 12, 48)
    """Sizes of the photos."""
    variant: str = "natural"
    """Variant that colours them."""
    photo: Path | None = None
    """Also a photo of your own, at its own size."""
    rounds: int = 7
    """Turns that a figure is the median of, after two to warm up."""
    folder: int = 200
    """Photos of 2 megapixels in a folder that is coloured; 0 for none."""
    threads: int = torch.get_num_threads()
    """Threads of torch."""


def real(megapixels: float) -> Image.Image:
    """scikit-image's photographs side by side, with the grain of film."""
    width, height = round((megapixels * 4e6 / 3) ** 0.5), round((megapixels * 3e6 / 4) ** 0.5)
    photos = (data.astronaut(), data.coffee(), data.chelsea(), data.stereo_motorcycle()[0])
    picture = Image.new("RGB", (width, height))
    side = height // 3 + 1
    for number in range(12):
        tile = Image.fromarray(photos[number % len(photos)]).resize((side, side))
        picture.paste(tile, (number % 4 * side, number // 4 * side))
    grain = np.random.default_rng(0).normal(0, 4, (height, width, 1)).round().astype(np.int16)
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))


def synthetic(megapixels: float) -> Image.Image:
    """Smooth shades alone, which a JPEG holds in few bytes."""
    width, height = round((megapixels * 4e6 / 3) ** 0.5), round((megapixels * 3e6 / 4) ** 0.5)
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def interleaved(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way; they take turns, so that what else the machine does hits all."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 2):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(times[2:]) for name, times in seconds.items()}


def stages(path: Path, colorizer: Colorizer, rounds: int) -> dict[str, float]:
    """Seconds of each stage from file to file, and of Pillow alone."""
    original = read(path)
    seen = colorizer.seen(original)
    ab = colorizer(seen) * colorizer.gain()
    levels = join(original.levels, ab)
    result = Image.fromarray(np.moveaxis(levels, 0, 2).copy())
    part = path.with_name("result.jpg")
    ways: tuple[Callable[[], object], ...] = (
        lambda: read(path),
        lambda: colorizer.seen(original),
        lambda: colorizer(seen),
        lambda: join(original.levels, ab),
        lambda: write(part, levels, original),
        lambda: colorizer.colorize_file(path, part),
        lambda: Image.open(path).load(),
        lambda: result.save(part, quality=QUALITY, subsampling="4:4:4"),  # as ours
    )
    return interleaved(dict(zip((*STAGES, WHOLE, *USUAL), ways, strict=True)), rounds)


def print_stages(photos: dict[str, Path], config: Config) -> None:
    colorizer = Colorizer.from_pretrained(config.variant, device="cpu")
    heads = ("photo, ms", "MB", *STAGES, WHOLE, *USUAL, "whole less network / Pillow")
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, path in photos.items():
        found = stages(path, colorizer, config.rounds)
        pillow = sum(found[stage] for stage in USUAL)
        ratio = (found[WHOLE] - found["network"]) / pillow
        cells = [f"{1000 * found[stage]:.0f}" for stage in (*STAGES, WHOLE, *USUAL)]
        size = f"{path.stat().st_size / 1e6:.1f}"
        print(f"| {name} | {size} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)


def forth(levels: np.ndarray) -> np.ndarray:
    """RGB8 (3, H, W) to L, in strips on all cores as `join` does it."""
    result = torch.empty(levels.shape[1:])

    def strip(top: int) -> None:
        some = slice(top, top + rows)
        result[some] = lightness_of(torch.from_numpy(levels[:, some]))

    rows = max(1, STRIP // levels.shape[2])
    on_all_cores(strip, range(0, levels.shape[1], rows))
    return result.numpy()


def back(lightness: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """L and ab to RGB8 (3, H, W), likewise."""
    result = torch.empty((3, *lightness.shape), dtype=torch.uint8)

    def strip(top: int) -> None:
        some = slice(top, top + rows)
        colors = torch.from_numpy(ab[:, some])
        result[:, some] = lab_to_levels(torch.from_numpy(lightness[some]), colors)

    rows = max(1, STRIP // lightness.shape[1])
    on_all_cores(strip, range(0, len(lightness), rows))
    return result.numpy()


def usual_back(lab: np.ndarray) -> np.ndarray:
    return (lab2rgb(lab) * 255).round().astype(np.uint8)


def print_colours(config: Config) -> None:
    """RGB to L, and L with ab to RGB, beside scikit-image."""
    print("\n| megapixels, ms | ours: to L | back | scikit-image: to Lab | back | times as fast | "
          "largest difference in levels |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for megapixels in config.megapixels:
        photo = np.asarray(real(megapixels))
        levels = np.moveaxis(photo, 2, 0).copy()
        lab = rgb2lab(photo)
        lightness, ab = forth(levels), np.moveaxis(lab[..., 1:], 2, 0).astype(np.float32)
        ways: dict[str, Callable[[], object]] = {
            "to L": partial(forth, levels),
            "back": partial(back, lightness, ab),
            "to Lab": partial(rgb2lab, photo),
            "to RGB": partial(usual_back, lab),
        }
        found = interleaved(ways, min(3, config.rounds))
        ours, usual = found["to L"] + found["back"], found["to Lab"] + found["to RGB"]
        ours_back = np.moveaxis(back(lightness, ab), 0, 2).astype(int)
        worst = np.abs(usual_back(lab) - ours_back).max()
        cells = " | ".join(f"{1000 * seconds:.0f}" for seconds in found.values())
        print(f"| {megapixels} | {cells} | {usual / ours:.1f} | {worst} |", flush=True)


COLD = """
import sys, time
start = time.perf_counter()
import torch
torch.set_num_threads({threads})
from colorhub import Colorizer
colorizer = Colorizer.from_pretrained({variant!r}, device="cpu")
loaded = time.perf_counter()
if {path!r}:
    colorizer.colorize_file({path!r}, {result!r})
done = time.perf_counter()
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(loaded - start, done - start, int(lines["VmHWM"].split()[0]) / 1024)
"""


def cold(path: Path | None, config: Config) -> tuple[float, float, float]:
    """Seconds until a variant is loaded and until a photo is coloured; peak memory in MB.

    In a process of its own, as peak memory is the process's. Linux only.
    """
    result = str(path.with_name("cold" + path.suffix)) if path else ""
    code = COLD.format(threads=config.threads, variant=config.variant, path=str(path or ""),
                       result=result)  # fmt: skip
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    loaded, done, peak = map(float, output.stdout.split())
    return loaded, done, peak


def print_cold(photos: dict[str, Path], config: Config) -> None:
    empty = min(cold(None, config)[2] for _ in range(3))
    print(f"\nA variant loaded, no photo: {empty:.0f} MB")
    print("| photo | loaded after, s | coloured after, s | peak MB | "
          "bytes a pixel beyond that, picture and result |\n|---|---|---|---|---|")  # fmt: skip
    for name, path in photos.items():
        loaded, done, peak = (median(each) for each in zip(*(cold(path, config) for _ in range(3)),
                                                           strict=True))  # fmt: skip
        levels = read(path).levels
        pixels = levels.shape[1] * levels.shape[2]
        held = levels.nbytes + 3 * levels.itemsize * pixels
        more = ((peak - empty) * 2**20 - held) / pixels
        print(f"| {name} | {loaded:.1f} | {done:.1f} | {peak:.0f} | {more:.1f} |", flush=True)


def print_folder(folder: Path, config: Config) -> None:
    """A folder as `colorhub colorize` does it, beside its stages alone over the same photos.

    The stages share the cores, so the sum of what each takes on all cores is what they allow.
    """
    colorizer = Colorizer.from_pretrained(config.variant, device="cpu")
    photo, jobs = real(2.0), []
    for number in range(config.folder):
        path = folder / f"{number:04}.jpg"
        photo.rotate(90 * (number % 2), expand=True).save(path, quality=90)
        jobs.append(Job(path, folder / "out" / path.name))
    start = time.perf_counter()
    outcomes = list(Album(colorizer, Settings()).color(jobs))
    whole = (time.perf_counter() - start) / len(jobs)
    assert not any(outcome.error for outcome in outcomes)
    seconds = alone(jobs, colorizer, config.threads)
    allowed = sum(seconds.values())
    print("\n| a photo of 2 megapixels, ms | " + " | ".join((*seconds, "sum", "album")) + " |")
    print("|---" * (3 + len(seconds)) + "|")
    cells = [f"{1000 * each:.1f}" for each in (*seconds.values(), allowed, whole)]
    print(f"| {len(jobs)} photos | {' | '.join(cells)} |")
    print(f"{1 / whole:.1f} photos/s, {allowed / whole:.0%} of what the stages allow")


def alone(jobs: list[Job], colorizer: Colorizer, threads: int) -> dict[str, float]:
    """Seconds a photo of each stage, over all photos, so many at a time on one core each."""
    every, ab = torch.get_num_threads(), torch.zeros(1, 2, 192, 256)
    original = read(jobs[0].photo)
    levels = join(original.levels, ab)
    stages: dict[str, Callable[[Job], object]] = {
        "decode": lambda job: colorizer.seen(read(job.photo)),
        "network": lambda job: colorizer(torch.zeros(1, 1, 192, 256)),
        "join": lambda job: join(original.levels, ab),
        "encode": lambda job: write(job.output, levels, original),
    }
    seconds = {}
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for name, stage in stages.items():
            start = time.perf_counter()
            list(pool.map(stage, jobs))
            seconds[name] = (time.perf_counter() - start) / len(jobs)
    torch.set_num_threads(every)
    return seconds


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    print(f"{config.threads} threads, torch {torch.__version__}, variant {config.variant}")
    with tempfile.TemporaryDirectory() as folder:
        photos = {}
        for megapixels in config.megapixels:
            for kind in (real, synthetic):
                name = f"{kind.__name__}, {megapixels} megapixels"
                photos[name] = Path(folder, f"{name}.jpg")
                kind(megapixels).save(photos[name], quality=QUALITY)
            photos[f"real and grey, {megapixels}"] = Path(folder, f"grey-{megapixels}.jpg")
            real(megapixels).convert("L").save(
                photos[f"real and grey, {megapixels}"], quality=QUALITY
            )
        if config.photo:
            photos[config.photo.name] = Path(folder, config.photo.name)
            photos[config.photo.name].write_bytes(config.photo.read_bytes())
        print_colours(config)
        print_stages(photos, config)
        print_cold(photos, config)
        if config.folder:
            (album := Path(folder, "album")).mkdir()
            print_folder(album, config)


if __name__ == "__main__":
    main(tyro.cli(Config, use_underscores=True))
