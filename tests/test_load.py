"""Many visitors at once: each gets their own, and who is one too many hears so at once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import APP, serving, wait_for
from PIL import Image

from colorhub import weights
from colorhub.colorizer import Colorizer
from colorhub.generators import Autoencoder

pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
gradio_client = pytest.importorskip("gradio_client")

from test_app import ARGUMENTS, CHROMIUM  # noqa: E402

VISITORS = 20
BEGUN = (gradio_client.utils.Status.IN_QUEUE, gradio_client.utils.Status.PROCESSING)
FULL = """
import threading
from colorhub import app, studio
demo = app.build()
demo.queue(max_size=1)
answer, never = studio._asked, threading.Event()
studio._asked = lambda *asked: (never.wait(60), answer(*asked))[1]
app.launch(port={port}, demo=demo)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("load")
    torch.manual_seed(0)
    network = Autoencoder(Autoencoder.Config(resolution=32, width=4))
    weights.save(network, folder / "variants" / "plain", mean_ab=(1.0, 2.0))
    across, down = np.meshgrid(np.linspace(0, 120, 96), np.linspace(0, 60, 64))
    for visitor in range(VISITORS):
        levels = across + down + 3 * visitor  # so alike that a mix-up would be seen nowhere else
        Image.fromarray(levels.astype(np.uint8)).save(folder / f"photo-{visitor}.png")
    return folder


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[object]:
    clients = []

    def connect(address: str) -> "gradio_client.Client":
        folder = tmp_path / f"client-{len(clients)}"
        clients.append(gradio_client.Client(address, verbose=False, download_files=folder))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def test_twenty_visitors_at_once_get_each_their_own(home, connect):
    gate = threading.Barrier(VISITORS)

    def visit(address: str, visitor: int) -> str:
        client = connect(address)
        upload = gradio_client.handle_file(str(home / f"photo-{visitor}.png"))
        gate.wait(60)
        return str(client.predict(upload, "plain", 1.0, 0, api_name="/colorize"))

    with serving(APP, home, HF_HUB_OFFLINE="1") as address, ThreadPoolExecutor(VISITORS) as pool:
        found = list(pool.map(lambda visitor: visit(address, visitor), range(VISITORS)))
    colorizer = Colorizer.from_pretrained(home / "variants" / "plain", device="cpu")
    for visitor, path in enumerate(found):
        wanted = np.asarray(colorizer.colorize(home / f"photo-{visitor}.png"), dtype=int)
        with Image.open(path) as picture:
            off = np.abs(np.asarray(picture.convert("RGB"), dtype=int) - wanted)
        assert off.max() <= 2, f"visitor {visitor}"  # in a group the last bits differ


def test_who_is_one_too_many_is_told_that_the_app_is_busy(home, connect):
    if CHROMIUM is None:
        pytest.skip("there is no chromium or google-chrome on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with serving(FULL, home, HF_HUB_OFFLINE="1") as address:
        client = connect(address)
        photos = [gradio_client.handle_file(str(home / f"photo-{n}.png")) for n in range(9)]
        jobs = []
        for each in photos:  # one after the other, or they would fill the queue before work begins
            jobs.append(client.submit(each, "plain", 1.0, 0, api_name="/colorize"))
            wait_for(lambda: jobs[-1].done() or jobs[-1].status().code in BEGUN)
        refused = wait_for(lambda: [each for each in jobs if each.done()])
        assert all("Queue is full" in str(each.exception()) for each in refused)
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
            page = browser.new_page()
            page.set_default_timeout(60_000)
            page.goto(address)
            page.locator("#go").wait_for()
            page.wait_for_timeout(1000)
            assert page.get_by_text("busy").count() == 0  # who only looks is not troubled
            page.click("#go")
            page.get_by_text("This application is currently busy. Please try again.").wait_for()
            browser.close()
        for each in jobs:
            each.cancel()
