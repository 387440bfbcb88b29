"""The app under load: how soon colours come, and what many visitors at once get.

    python benchmarks/app.py [--megapixels 12] [--visitors 20 50]

In Chromium: from the press of the button to the first coloured pixel, and to the last of four
variants. Through `gradio_client`: visitors who all come at once, each with a photo of their own;
every result is compared with what the variant gives for that photo alone. Figures are of this
machine at this moment; read the ratios.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import tyro
from gradio_client import Client, handle_file
from photo import real
from PIL import Image
from playwright.sync_api import sync_playwright

from colorhub import Colorizer

VARIANTS = ("natural", "cwgan", "pix2pix-gan-l2", "fusion")
TOLERANCE = 3  # levels: photos that pass a network together differ in the last bits
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)


@dataclass(frozen=True)
class Config:
    megapixels: float = 12
    """Size of the visitor's photo in the browser."""
    rounds: int = 3
    """Visits in the browser that a figure is the median of, after one to warm up."""
    visitors: tuple[int, ...] = (20, 50)
    """How many come at once."""
    photos: float = 1
    """Megapixels of their photos."""
    calls: int = 3
    """Photos that each of them has coloured, one after the other."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """(address, process id) of the app in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "GRADIO_TEMP_DIR": str(folder / "uploads")}
    code = f"from colorhub.app import launch; launch(port={port})"
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=log, stderr=log
        )
    try:
        address = f"http://127.0.0.1:{port}/"
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(address):
                break
            if server.poll() is not None:
                sys.exit((folder / "log").read_text())
            time.sleep(0.1)
        yield address, server.pid
    finally:
        server.terminate()
        server.wait()


class Memory:
    """Peak of a process's resident memory in MB, watched while the block runs."""

    def __init__(self, process: int) -> None:
        self.path = Path(f"/proc/{process}/status")
        self.peak = self.now()

    def now(self) -> float:
        lines = self.path.read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1e3

    def __enter__(self) -> "Memory":
        self.over = threading.Event()
        self.watch = threading.Thread(target=self._watch)
        self.watch.start()
        return self

    def _watch(self) -> None:
        while not self.over.wait(0.05):
            self.peak = max(self.peak, self.now())

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.watch.join()


def in_browser(address: str, folder: Path, config: Config) -> dict[str, float]:
    """Seconds from the press of the button until the first, and the last, of four is seen."""
    first, last = [], []
    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        for visit in range(config.rounds + 1):
            path = folder / f"photo-{visit}.jpg"  # another each time, or it would be remembered
            photo = np.asarray(real(config.megapixels).convert("L"))
            Image.fromarray(np.roll(photo, 64 * visit, axis=1)).save(path, quality=92)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(120_000)
            page.goto(f"{address}?variants={','.join(VARIANTS)}")
            page.locator("#note", has_text="Done.").wait_for()
            page.set_input_files("#photo input[type=file]", path)
            page.locator("#note", has_text="pixels.").wait_for()
            old = page.locator("#pair img").last.get_attribute("src")
            start = time.perf_counter()
            page.click("#go")
            page.wait_for_function(
                "old => { const img = [...document.querySelectorAll('#pair img')].at(-1);"
                "return img.src !== old && img.complete && img.naturalWidth > 0; }",
                arg=old,
            )
            first.append(time.perf_counter() - start)
            page.locator("#note", has_text="Done.").wait_for()
            page.wait_for_function(
                "many => document.querySelectorAll('#results img').length === many",
                arg=len(VARIANTS),
            )
            last.append(time.perf_counter() - start)
            page.close()
        browser.close()
    return {"first coloured pixel": median(first[1:]), "all four variants": median(last[1:])}


def at_once(address: str, folder: Path, many: int, config: Config) -> dict[str, Any]:
    """What so many visitors get who come at the same moment, each with photos of their own."""
    colorizer = Colorizer.from_pretrained("natural", device="cpu")
    base = np.asarray(real(config.photos).convert("L"))
    photos, wanted = [], []
    for number in range(many * config.calls):
        picture = Image.fromarray(np.roll(base, 7 * number + many, axis=1))
        photos.append(folder / f"visitor-{many}-{number}.png")
        picture.save(photos[-1])
        wanted.append(np.asarray(colorizer.colorize(picture), dtype=int))
    gate = threading.Barrier(many)
    seconds: list[float] = []
    refused: list[str] = []
    wrong = 0

    def visit(visitor: int) -> int:
        client = Client(
            address, verbose=False, download_files=str(folder / f"got-{many}-{visitor}")
        )
        bad = 0
        gate.wait()
        for call in range(config.calls):
            number = visitor * config.calls + call
            start = time.perf_counter()
            try:
                path = client.predict(
                    handle_file(str(photos[number])), "natural", 1.0, 0, api_name="/colorize"
                )
            except Exception as error:  # the client's own, of the server's sentence
                refused.append(str(error))
                continue
            seconds.append(time.perf_counter() - start)
            with Image.open(path) as picture:
                off = np.abs(np.asarray(picture.convert("RGB"), dtype=int) - wanted[number])
            bad += int(off.max() > TOLERANCE)
        client.close()
        return bad

    start = time.perf_counter()
    with ThreadPoolExecutor(many) as pool:
        wrong = sum(pool.map(visit, range(many)))
    return {
        "photos a second": len(seconds) / (time.perf_counter() - start),
        "median seconds": median(seconds) if seconds else float("nan"),
        "longest": max(seconds, default=float("nan")),
        "done": len(seconds),
        "refused": len(refused),
        "wrong": wrong,
        "said": sorted(set(refused)),
    }


def together() -> dict[str, float]:
    """How much faster four photos pass a network together than one by one, by variant."""
    ratios = {}
    for name in VARIANTS:
        colorizer = Colorizer.from_pretrained(name, device="cpu")
        side = colorizer.generator.config.resolution
        four = torch.rand(4, 1, side, side * 4 // 3) * 2 - 1
        one_by_one, as_one = [], []
        for _ in range(7):
            start = time.perf_counter()
            for each in four.split(1):
                colorizer(each)
            middle = time.perf_counter()
            colorizer(four)
            as_one.append(time.perf_counter() - middle)
            one_by_one.append(middle - start)
        ratios[name] = median(one_by_one) / median(as_one)
    return ratios


def main(config: Config) -> None:
    with tempfile.TemporaryDirectory() as place, served(Path(place)) as (address, process):
        folder = Path(place)
        if CHROMIUM:
            with Memory(process) as memory:
                for name, value in in_browser(address, folder, config).items():
                    print(f"{name}: {value:.2f} s ({config.megapixels:g} megapixels, alone)")
            print(f"peak memory of the app: {memory.peak:.0f} MB\n")
        for many in config.visitors:
            with Memory(process) as memory:
                figures = at_once(address, folder, many, config)
            said = figures.pop("said")
            print(f"{many} visitors at once, {config.calls} photos each:")
            for name, value in figures.items():
                print(f"  {name}: {value:.3g}")
            print(f"  peak memory of the app: {memory.peak:.0f} MB")
            for sentence in said:
                print(f"  refused: {sentence}")
    print("\nfour photos together, times as fast as one by one:")
    for name, ratio in together().items():
        print(f"  {name}: {ratio:.2f}")


if __name__ == "__main__":
    main(tyro.cli(Config))
