"""A whole visit in a real browser: on a phone and a desktop, by keyboard alone, and offline."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from conftest import APP, make_photo, serving
from made_films import make_film

from colorhub import cards, weights
from colorhub.generators import Autoencoder, MobileUNet
from colorhub.hub import publish

pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")

from test_app import ARGUMENTS, CHROMIUM

CAMERA = "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
PLACES = """() => [...document.querySelectorAll("#pair img, #results img")].map(img => {
    const { a, e, f } = new DOMMatrix(getComputedStyle(img).transform);
    return [a, e / img.offsetWidth, f / img.offsetHeight].map(v => +v.toFixed(2) + 0).join(" ");
})"""
TABS = ("Compare", "Blind test", "Several photos", "Film", "Words", "Noise", "Models")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny variants, and photos."""
    folder = tmp_path_factory.mktemp("visit")
    torch.manual_seed(0)
    plain = Autoencoder(Autoencoder.Config(resolution=32, width=4))
    natural = MobileUNet(MobileUNet.Config(resolution=32, width=4, alternatives=4))
    for name, network, last in (
        ("plain", plain, plain.decoder[-2]),
        ("natural", natural, natural.mean),
    ):
        assert isinstance(last, torch.nn.Conv2d) and last.bias is not None
        with torch.no_grad():
            last.bias.copy_(torch.tensor([0.1, 0.2]))
        weights.save(network, folder / "variants" / name)
    make_photo(300, 200).save(folder / "harbour.png")
    make_photo(200, 300, seed=1).save(folder / "tower.jpg")
    (folder / "broken.jpg").write_text("no photo")
    return folder


@pytest.fixture(scope="module")
def app(home: Path) -> Iterator[str]:
    with serving(APP, home, COLORHUB_VOTES=str(home / "votes.jsonl")) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium or google-chrome on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        arguments = [*ARGUMENTS.split(), *CAMERA.split()]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Visitor:
    """Somebody at the page, whose requests are noted down."""

    def __init__(self, browser: Any, address: str, width: int = 1280, scheme: str = "light"):
        self.width = width
        self.page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page.set_default_timeout(60_000)
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.note("#note", "This is an example")

    def note(self, where: str, words: str) -> None:
        self.page.locator(where, has_text=words).wait_for()

    def tab(self, name: str) -> None:
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if not tab.is_visible():  # on a phone
            self.page.get_by_role("button", name="More tabs").or_(
                self.page.locator(".overflow-menu > button")
            ).first.click()
            tab = self.page.locator(".overflow-dropdown button", has_text=name)
        tab.click()

    def never_left(self) -> None:
        hosts = {urlsplit(url).hostname for url in self.asked if url.startswith(("http", "ws"))}
        assert hosts == {"127.0.0.1"}

    def fits(self) -> None:
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= self.width

    def is_accessible(self) -> None:
        """No finding of axe-core that it calls serious or critical."""
        self.page.wait_for_timeout(1000)  # what is busy is dimmed
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        found = axe.Axe().run(self.page).response["violations"]
        grave = [each for each in found if each["impact"] in ("serious", "critical")]
        assert not grave, [(each["id"], each["nodes"][0]["html"]) for each in grave]


@pytest.fixture
def visitor(browser: Any, app: str) -> Iterator[Visitor]:
    visitor = Visitor(browser, app)
    yield visitor
    visitor.page.close()
    visitor.never_left()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_a_whole_visit(browser, app, home, hub_server, tmp_path, width, scheme):
    visitor = Visitor(browser, app, width, scheme)
    page = visitor.page
    # compare, adjust, take home
    page.set_input_files("#photo input[type=file]", home / "harbour.png")
    visitor.note("#note", "harbour.png: 300 x 200 pixels.")
    page.click("#go")
    visitor.note("#note", "Done.")
    page.locator("#results .thumbnail-item").nth(1).click()
    page.locator("#view", has_text="autoencoder").wait_for()
    before = page.locator("#pair img").last.get_attribute("src")
    page.focus("#saturation input[type=range]")
    page.keyboard.press("End")
    page.wait_for_function(
        "before => [...document.querySelectorAll('#pair img')].at(-1).src !== before", arg=before
    )
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "harbour-autoencoder.png"
    visitor.is_accessible()
    visitor.fits()
    # vote
    visitor.tab("Blind test")
    page.get_by_role("button", name="Show me two").click()
    page.locator("#blind-answers").wait_for()
    visitor.is_accessible()
    page.get_by_role("button", name="First", exact=True).click()
    visitor.note("#blind-verdict", "Your vote is kept.")
    visitor.fits()
    # several at once
    visitor.tab("Several photos")
    names = ("harbour.png", "broken.jpg", "tower.jpg")
    page.set_input_files("#photos input[type=file]", [home / name for name in names])
    page.locator("#photos").get_by_text("tower").wait_for()
    page.click("#several-go")
    visitor.note("#several-note", "Done; 1 failed.")
    with page.expect_download() as download:
        page.locator("#several-zip a[download]").first.click()
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert len(archive.namelist()) == 3
    visitor.is_accessible()
    visitor.fits()
    # cards, and a network's epochs
    _publish_epochs(tmp_path)
    visitor.tab("Models")
    page.locator("#card h1").first.wait_for()
    page.get_by_role("button", name="A network's colours, epoch by epoch").click()
    page.set_input_files("#epoch-photo input[type=file]", home / "harbour.png")
    page.locator("#epoch-photo img").wait_for()
    page.fill("#epoch-repository textarea, #epoch-repository input", "owner/tiny")
    page.click("#epoch-list")
    visitor.note("#epoch-note", "epoch-2.")
    page.focus("#epoch input[type=range]")
    page.keyboard.press("Home")
    page.wait_for_selector('#epoch-shown img[alt="Photo colourised at epoch-1"]')
    visitor.is_accessible()
    visitor.fits()
    page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
    page.close()
    visitor.never_left()


def _publish_epochs(folder: Path) -> None:
    for epoch in (1, 2):
        torch.manual_seed(epoch)
        network = Autoencoder(Autoencoder.Config(resolution=32, width=4))
        weights.save(network, folder / "tiny")
        cards.write(folder / "tiny")
        publish(folder / "tiny", "owner/tiny", revision=f"epoch-{epoch}", token="owner-token")


def _until(page: Any, selector: str, key: str = "Tab", most: int = 60) -> None:
    """Press a key until the focus is there."""
    for _ in range(most):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"the keyboard does not reach {selector}")


def test_a_visit_by_keyboard_alone(visitor, home):
    page = visitor.page
    _until(page, "#photo button[aria-label='Clear'], #photo .icon-button, #photo button")
    page.keyboard.press("Enter")  # the example goes
    page.locator("#photo input[type=file]").wait_for(state="attached")
    with page.expect_file_chooser() as chooser:
        _until(page, "#photo button", key="Tab")
        page.keyboard.press("Enter")
    chooser.value.set_files(home / "tower.jpg")
    visitor.note("#note", "tower.jpg")
    _until(page, "#go")
    page.keyboard.press("Enter")
    visitor.note("#note", "Done.")
    _until(page, "#pair .stage")
    page.keyboard.press("+")
    assert page.inner_text("#pair output") == "150 %"
    page.keyboard.press("0")
    _until(page, "#pair input[type=range]")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#pair input[type=range]") == "51"
    page.keyboard.press("Shift+ArrowLeft")
    assert page.input_value("#pair input[type=range]") == "41"
    _until(page, "#view input")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.wait_for_selector("#pair [data-view='Side by side']")
    _until(page, "#save")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "tower-natural.jpg"
    _until(page, "#results .thumbnail-item")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#view", has_text="autoencoder").wait_for()


def test_what_is_zoomed_in_one_picture_is_zoomed_in_all(visitor):
    page = visitor.page
    page.get_by_role("radio", name="Side by side").check()
    page.wait_for_selector("#pair [data-view='Side by side']")
    page.locator("#pair .stage").scroll_into_view_if_needed()
    box = page.locator("#pair .pane.right").bounding_box()
    page.mouse.dblclick(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    assert page.inner_text("#pair output") == "300 %"
    places = _places(page)
    assert len(places) == 5 and len(set(places)) == 1  # two, and three in the strip
    assert places[0].startswith("3 ")
    box = page.locator("#pair .pane.right").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 100)
    page.mouse.up()
    moved = _places(page)
    assert len(set(moved)) == 1 and moved[0] != places[0]
    page.mouse.wheel(0, -300)  # on, as it is zoomed
    page.wait_for_function("document.querySelector('#pair output').textContent === '800 %'")
    page.get_by_role("button", name="Whole photo").click()
    assert set(_places(page)) == {"1 0 0"}


def _places(page: Any) -> list[str]:
    """Zoom and place of each picture, in shares of its size."""
    page.locator("#results img").nth(2).scroll_into_view_if_needed()
    page.locator("#pair").scroll_into_view_if_needed()
    return page.evaluate(PLACES)


def test_a_photo_is_taken_with_the_camera(visitor):
    page = visitor.page
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0")
    page.wait_for_function("document.querySelector('#photo video').currentTime > 0.5")
    page.get_by_label("capture photo").click()
    visitor.note("#note", re.compile(r"\d+ x \d+ pixels"))
    page.click("#go")
    visitor.note("#note", "Done.")


def test_a_film_a_sentence_and_numbers_become_pictures_offline(visitor, tmp_path):
    pytest.importorskip("av")
    make_film(tmp_path / "walk.mp4")
    page = visitor.page
    visitor.tab("Film")
    page.set_input_files("#film input[type=file]", tmp_path / "walk.mp4")
    page.locator("#film button[title='Clear']").wait_for()
    # What would cut the film is fetched from elsewhere.
    assert not page.get_by_role("button", name="Trim video to selection").is_visible()
    page.click("#film-go")
    visitor.note("#film-note", "Done in")
    page.locator("#film-result video").wait_for()
    visitor.tab("Words")
    page.get_by_role("button", name="Paint it").click()
    page.get_by_label("Word", exact=False).last.wait_for()
    visitor.tab("Noise")
    page.get_by_role("button", name="Draw").click()
    visitor.note("#noise-note", "pictures drawn by digits, seed 0.")
    visitor.is_accessible()


def test_every_tab_is_accessible_on_both_sizes_in_both_schemes(browser, app):
    for width, scheme in ((1280, "dark"), (360, "light")):
        visitor = Visitor(browser, app, width, scheme)
        for name in TABS:
            visitor.tab(name)
            visitor.is_accessible()
            visitor.fits()
        visitor.page.close()
