"""What tests share: a Hub on loopback, photos and variants of their own making."""

import atexit
import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hub_server import HubServer

# huggingface_hub reads its settings once, when it is imported: the server must be up before.
_SERVER = HubServer(tokens={"owner-token": "owner"})
if multiprocessing.parent_process() is not None:
    _SERVER.url = os.environ["HF_ENDPOINT"]  # a test's own processes share its server
else:
    _SERVER.start()
    atexit.register(_SERVER.stop)
_HOME = tempfile.TemporaryDirectory(prefix="colorhub-tests-")
os.environ |= {
    "HF_ENDPOINT": _SERVER.url,
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HOME": _HOME.name,
    "GRADIO_ANALYTICS_ENABLED": "False",
    "OMP_NUM_THREADS": "1",
}
for name in (
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
    "COLORHUB_NAMESPACE",
    "COLORHUB_VARIANTS_DIR",
    "COLORHUB_VOTES",
    "COLORHUB_VOTES_DATASET",
):
    os.environ.pop(name, None)

import torch
import torch.distributed as dist
from huggingface_hub import constants
from PIL import Image

from colorhub import weights
from colorhub.generators import (
    ARCHITECTURES,
    Autoencoder,
    Fusion,
    Generator,
    MobileUNet,
    ResUNet,
    UNet,
)

torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent
TINY = {
    "ResUNet": ResUNet.Config(
        resolution=32, width=4, depth=2, activation="silu", noise_dim=2, ab_gain=100.0
    ),
    "UNet": UNet.Config(resolution=32, width=4, depth=3, dropout=0.2, ab_gain=100.0),
    "Fusion": Fusion.Config(
        resolution=32,
        width=4,
        encoder="pooled",
        decoder="paintings",
        extractor="resnet34",
        extractor_width=2,
        extractor_size=40,
        embedding="logits",
        padding=True,
        ab_gain=110.0,
    ),
    "Autoencoder": Autoencoder.Config(resolution=32, width=4, ab_gain=110.0),
    "MobileUNet": MobileUNet.Config(
        resolution=32, width=4, ab_gain=100.0, queries=3, saturation=1.5, alternatives=5
    ),
}


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may speak to anything but this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else None
        if host not in (None, "127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test wanted to reach {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def hub_server() -> Iterator[HubServer]:
    """The Hub on loopback that huggingface_hub speaks to, empty."""
    _SERVER.reset()
    yield _SERVER
    _SERVER.reset()


@pytest.fixture
def empty_cache(hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where what comes from the Hub is cached, empty."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(cache), raising=False)
    return cache


def make_photo(width: int = 48, height: int = 40, seed: int = 0) -> Image.Image:
    """A colourful picture with smooth areas and edges."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, size=(4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def photo() -> Image.Image:
    return make_photo()


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen photos to train on and four to measure on, as datasets reads a folder."""
    folder = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 16), ("test", 4)):
        (folder / split).mkdir()
        for i in range(count):
            size = (40 + 3 * i, 36 + 5 * (i % 4))
            make_photo(*size, seed=100 * (split == "test") + i).save(folder / split / f"{i:02}.png")
    return folder


def on_two_ranks(function, folder, *arguments):
    """Run function(rank, ...) in two processes of one gloo group; their results in rank order."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = [
            pool.submit(_member, function, rank, str(folder / "meeting"), *arguments)
            for rank in range(2)
        ]
        return [job.result() for job in jobs]


def _member(function, rank, meeting, *arguments):
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        dist.barrier()  # one that is quickly done must not leave while the other still connects
        torch.manual_seed(0)
        return function(rank, *arguments)
    finally:
        dist.destroy_process_group()


@pytest.fixture(params=TINY)
def tiny_generator(request: pytest.FixtureRequest) -> Generator:
    """Each architecture, small, with settings that are not the defaults, ready to colour."""
    return make_generator(request.param)


def make_generator(architecture: str = "ResUNet") -> Generator:
    """A tiny network with random weights, the same each time, that gives visible colour."""
    torch.manual_seed(0)
    network = ARCHITECTURES[architecture](TINY[architecture])  # type: ignore[arg-type]
    last = network
    if isinstance(network, MobileUNet):
        last = network.mean
    elif isinstance(network, Fusion):
        last = network.decoder
    with torch.no_grad():
        list(last.parameters())[-1].copy_(torch.tensor([0.1, 0.3]))
    return network.eval()


@contextlib.contextmanager
def serving(code: str, folder: Path, **environment: str) -> Iterator[str]:
    """The address of a page that code serves at `{port}`, in a process of its own.

    Its variants are those in the folder's variants/, its uploads go to uploads/, its log to log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "COLORHUB_VARIANTS_DIR": str(folder / "variants"),
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "HF_HOME": str(folder / "hf"),
        "NO_PROXY": "127.0.0.1,localhost",
        **environment,
    }
    command = [sys.executable, "-c", code.replace("{port}", str(port))]
    with open(folder / "log", "a") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}/"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(300):
            with contextlib.suppress(OSError), opener.open(address, timeout=5):
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=0.2)
                pytest.fail(f"The page did not start:\n{(folder / 'log').read_text()}")
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


APP = "from colorhub.app import launch; launch(port={port})"
"""Code for `serving`."""


def wait_for(value):
    """What a function returns as soon as that is something."""
    for _ in range(3000):
        if found := value():
            return found
        time.sleep(0.01)
    raise AssertionError("it never came")


@pytest.fixture
def variant_folder(tmp_path: Path) -> Path:
    """A published variant's folder, card and all."""
    from colorhub import cards

    folder = tmp_path / "tiny"
    weights.save(make_generator(), folder, mean_ab=(1.5, 7.25))
    cards.write(folder)
    return folder
