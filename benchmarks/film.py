"""Films: frame by frame, smoothed along the flow, and by variants of films, side by side.

    python benchmarks/film.py [--variants natural flowchroma] [--clips fox sample3 schoolgirls]

Clips of colour films are coloured from their lightness, by what `colorhub colorize` runs, into
files, and what these hold is measured. Flicker is the mean change of ab along the true film's
optical flow between neighbouring frames, given as a multiple of the true film's own; flow and
trust are found more finely than smoothing finds them. It is measured twice: of the colours as they
are computed, and of the file, where 8 bits and chroma at half resolution add some to every way.
Frames a second are those of the whole way from file to file, without loading the variant, and so
is the processor time of a frame, on all threads: where other programs run, read the latter.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it
import torch
import torch.nn.functional as F
import tyro
from datasets import load_dataset
from PIL import Image
from skimage.color import rgb2lab

from colorhub import filming, metrics
from colorhub.films import frames, open_film
from colorhub.flicker import flicker
from colorhub.flow import grey
from colorhub.hub import list_variants, resolve
from colorhub.journal import Job
from colorhub.weights import kind_of
from colorhub.windows import Seen, Windows

Clip = list[np.ndarray]  # frames (H, W, 3) uint8


@dataclass(frozen=True)
class Config:
    dataset_name: str = "shared/data/video"
    """Frames with the columns image, video, frame and fps, sorted."""
    clips: tuple[str, ...] = ("fox", "sample3", "schoolgirls")
    """Values of the column video: clips that no variant of films was trained on."""
    variants: tuple[str, ...] = ("natural",)
    """Variants of photos, each taken frame by frame and smoothed; those of films are added."""
    lines: int = 720
    """Also time the first clip enlarged to so many lines."""
    threads: int = 2
    """Threads for the networks and for joining; codecs choose their own."""


@dataclass(frozen=True)
class Row:
    """A way of colouring and its figures, a value for each clip."""

    name: str
    computed: list[float]  # flicker of the colours before they are rounded
    flicker: list[float]  # of the file
    ciede2000: list[float]
    ab_rmse: list[float]
    speed: list[float]  # frames a second; the last are those of the enlarged clip
    effort: list[float]  # milliseconds of processors a frame, likewise


def read(config: Config) -> dict[str, Clip]:
    clips: dict[str, Clip] = {name: [] for name in config.clips}
    for row in load_dataset(config.dataset_name, split="train"):
        if row["video"] in clips:
            clips[row["video"]].append(np.asarray(row["image"].convert("RGB")))
    return clips


def write(clip: Clip, path: Path) -> Path:
    """A lossless film of a clip."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream("ffv1", rate=25)
        stream.height, stream.width = clip[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for i, picture in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return path


def enlarged(clip: Clip, lines: int) -> Clip:
    height, width = clip[0].shape[:2]
    size = (2 * round(width * lines / height / 2), lines)
    return [np.asarray(Image.fromarray(each).resize(size)) for each in clip]


def coloured(work: filming.Filming, film: Path) -> tuple[Clip, float, float]:
    """The coloured film's frames, how many were coloured a second, and processors' ms for each."""
    output = film.with_name("out.mkv")
    start, busy = time.perf_counter(), time.process_time()
    *_, outcome = work.color(Job(film, output))
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    assert isinstance(outcome, filming.Outcome) and not outcome.error, outcome
    with av.open(str(output)) as result:
        pictures = [frame.to_ndarray(format="rgb24") for frame in result.decode(video=0)]
    output.unlink()
    return pictures, len(pictures) / seconds, 1000 * busy / len(pictures)


def computed(work: filming.Filming, film: Path) -> list[np.ndarray]:
    """The ab of each frame as it is computed: (H, W, 2) in Lab units."""
    colorizer, smooth = work.colorizer, work.settings.smooth
    found = open_film(film)
    seen = (Seen(frame, colorizer.seen(frame.picture)) for frame in frames(found))
    size = (found.height, found.width)
    colors = []
    for group in Windows(colorizer, smooth=smooth).groups(seen):
        for _, ab in group:
            ab = F.interpolate(ab * colorizer.gain(), size=size, mode="bicubic")
            colors.append(np.ascontiguousarray(ab[0].permute(1, 2, 0).numpy()))
    return colors


def flicker_of(lab: Sequence[np.ndarray], greys: Sequence[np.ndarray]) -> float:
    return flicker(greys, [np.ascontiguousarray(each[..., 1:], np.float32) for each in lab])


def measure(name: str, work: filming.Filming, clips: dict[str, Clip], folder: Path) -> Row:
    row = Row(name, [], [], [], [], [], [])
    for clip_name, clip in clips.items():
        film = write(clip, folder / "film.mkv")
        result, speed, effort = coloured(work, film)
        row.speed.append(speed)
        row.effort.append(effort)
        if clip_name.endswith(" lines"):
            continue
        truth = [rgb2lab(each) for each in clip]
        greys = [grey(each[..., 0] / 50 - 1) for each in truth]
        own = flicker_of(truth, greys)
        row.flicker.append(flicker_of([rgb2lab(each) for each in result], greys) / own)
        row.computed.append(flicker(greys, computed(work, film)) / own)
        pairs = list(zip(clip, result, strict=True))
        row.ciede2000.append(float(np.mean([metrics.ciede2000(*pair) for pair in pairs])))
        row.ab_rmse.append(float(np.mean([metrics.ab_rmse(*pair) for pair in pairs])))
    return row


def ways(config: Config) -> list[tuple[str, str, bool]]:
    """(what a row is called, variant, whether it is smoothed)."""
    films = [name for name in list_variants(kind="video") if name not in config.variants]
    found = []
    for name in (*config.variants, *films):
        alone = "alone" if kind_of(resolve(name).folder) == "video" else "frame by frame"
        found += [(f"{name}, {alone}", name, False), (f"{name}, smoothed", name, True)]
    return found


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    clips = read(config)
    first = config.clips[0]
    timed = clips | {f"{config.lines} lines": enlarged(clips[first][:20], config.lines)}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for label, name, smooth in ways(config):
            colorizer = filming.load(resolve(name))
            work = filming.Filming(colorizer, filming.Settings(smooth=smooth))
            rows.append(measure(label, work, timed, Path(folder)))
            print(rows[-1], flush=True)
    print_tables(config, rows, clips)


def print_tables(config: Config, rows: list[Row], clips: dict[str, Clip]) -> None:
    height, width = clips[config.clips[0]][0].shape[:2]
    figures = ("computed", "flicker", "ciede2000", "ab_rmse")
    print("\n| | flicker, computed | of the file | CIEDE2000 | ab RMSE |\n|---|---|---|---|---|")
    for place, row in enumerate(rows):
        cells = []
        for figure in figures:
            mean, base = (np.mean(getattr(each, figure)) for each in (row, rows[place & ~1]))
            cells.append(f"{mean:.2f}" + f" (x {mean / base:.2f})" * (place % 2))
        print(f"| {row.name} | {' | '.join(cells)} |")
    for figure in figures[:3]:
        print(f"\n| {figure} | {' | '.join(config.clips)} |\n|{'---|' * (len(config.clips) + 1)}")
        for row in rows:
            print(f"| {row.name} | {' | '.join(f'{each:.2f}' for each in getattr(row, figure))} |")
    sizes = (f"{width} x {height}", f"{config.lines} lines")
    heads = [f"{what}, {size}" for what in ("frames/s", "ms of processors") for size in sizes]
    print(f"\n| | {' | '.join(heads)} |\n|{'---|' * 5}")
    for row in rows:
        fast = [f"{row.speed[place]:.1f}" for place in (0, -1)]
        hard = [f"{row.effort[place]:.0f}" for place in (0, -1)]
        print(f"| {row.name} | {' | '.join(fast + hard)} |")


if __name__ == "__main__":
    main(tyro.cli(Config, use_underscores=True))
