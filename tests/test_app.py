"""The app as a visitor and as `gradio_client` meet it: a real server, a real browser."""

import itertools
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from conftest import APP, serving
from PIL import Image

from colorhub import weights
from colorhub.decoding import read
from colorhub.generators import Autoencoder, Generator, MobileUNet, ResUNet

pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
gradio_client = pytest.importorskip("gradio_client")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
FIRST = ["natural", "autoencoder", "cwgan"]  # that the page opens with
SIZE = (300, 200)  # of the photo that the tests colour
ROOT = Path(__file__).parents[1]


def _save_variant(generator: Generator, last: torch.nn.Conv2d, folder: Path) -> None:
    assert last.bias is not None
    with torch.no_grad():
        last.bias.copy_(torch.tensor([0.1, 0.2]))  # in all it says there is a warm colour
    weights.save(generator, folder, mean_ab=(1.0, 2.0))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an app with three tiny variants, in a process of its own."""
    folder = tmp_path_factory.mktemp("app")
    torch.manual_seed(0)
    noisy = ResUNet(ResUNet.Config(resolution=32, width=4, depth=2, noise_dim=2))
    plain = Autoencoder(Autoencoder.Config(resolution=32, width=4))
    natural = MobileUNet(
        MobileUNet.Config(resolution=32, width=4, encoder="mobilenet_v2_100", alternatives=4)
    )
    with torch.no_grad():  # seeds differ visibly
        natural.shifts.bias.copy_(torch.linspace(-0.4, -0.05, 8))
    _save_variant(noisy, noisy.head, folder / "variants" / "noisy")
    _save_variant(plain, plain.decoder[-2], folder / "variants" / "plain")
    _save_variant(natural, natural.mean, folder / "variants" / "natural")
    with serving(APP, folder, HF_HUB_OFFLINE="1") as address:
        yield address


@pytest.fixture(scope="module")
def client(app: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    downloads = tmp_path_factory.mktemp("downloads")
    client = gradio_client.Client(app, verbose=False, download_files=downloads)
    yield client
    client.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    across, down = np.meshgrid(np.linspace(40, 220, SIZE[0]), np.linspace(0, 30, SIZE[1]))
    path = tmp_path_factory.mktemp("photo") / "harbour.png"
    Image.fromarray((across + down).astype(np.uint8)).save(path)
    return path


def _chroma(path: str | Path) -> float:
    """Mean difference between a pixel's largest and smallest channel, in levels."""
    with Image.open(path) as picture:
        return float(np.ptp(np.asarray(picture.convert("RGB"), dtype=int), axis=2).mean())


def _size(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def _colorize(client: Any, photo: Path, variant: str, strength: float = 1.0, seed: int = 0) -> str:
    upload = gradio_client.handle_file(str(photo))
    path = client.predict(upload, variant, strength, seed, api_name="/colorize")
    assert isinstance(path, str)
    return path


def test_the_api_lists_the_variants_of_this_machine(client):
    assert {"natural", "noisy", "plain"} <= set(client.predict(api_name="/variants"))


def test_the_api_shows_the_three_promised_endpoints_and_no_other(client):
    info = client.view_api(return_format="dict", print_info=False)
    assert set(info["named_endpoints"]) == {"/variants", "/colorize", "/compare"}
    names = [each["parameter_name"] for each in info["named_endpoints"]["/compare"]["parameters"]]
    assert names == ["photo", "variants", "strength", "seed"]


def test_the_api_colours_a_photo_at_its_own_size(client, photo):
    path = _colorize(client, photo, "plain")
    assert Path(path).name == "harbour-plain.png"
    assert _size(path) == SIZE
    assert _chroma(path) > 10


def test_a_jpeg_comes_back_as_a_jpeg(client, photo, tmp_path):
    Image.open(photo).save(tmp_path / "harbour.JPG")
    path = _colorize(client, tmp_path / "harbour.JPG", "plain")
    assert Path(path).name == "harbour-plain.jpg"
    assert _size(path) == SIZE


def test_a_deep_scan_keeps_its_levels(client, tmp_path):
    levels = np.linspace(0, 65535, 120 * 90).reshape(90, 120).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "scan.tiff")
    path = _colorize(client, tmp_path / "scan.tiff", "plain", strength=0)
    assert Path(path).name == "scan-plain.tiff"
    result = read(path)
    assert result.bits == 16
    assert np.abs(result.levels.astype(int) - levels).max() <= 2


def test_no_strength_is_a_grey_photo(client, photo):
    assert _chroma(_colorize(client, photo, "plain", strength=0)) == 0


def test_a_seed_says_which_colours(client, photo):
    first, again, other = (
        np.asarray(Image.open(_colorize(client, photo, "noisy", seed=seed))) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_a_comparison_shows_every_variant_and_says_why_one_is_missing(client, photo):
    upload = gradio_client.handle_file(str(photo))
    asked = ["plain", "nobody", "noisy"]
    gallery, table = client.predict(upload, asked, 1.0, 0, api_name="/compare")
    assert [_size(each["image"]) for each in gallery] == [SIZE, SIZE]
    assert all(_chroma(each["image"]) > 10 for each in gallery)
    assert [each["caption"].split(" · ")[:2] for each in gallery] == [
        ["plain", "local"],
        ["noisy", "local"],
    ]
    assert table["headers"] == ["name", "revision", "paper", "licence", "seconds", "remark"]
    assert [row[0] for row in table["data"]] == asked
    assert table["data"][0][2] == "Quang and Nghia 2020"
    assert float(table["data"][0][4]) >= 0
    assert table["data"][1][5].startswith("There is no variant 'nobody'")


@pytest.mark.parametrize("variant", ["nobody", "../variants/plain", "/", "", "owner/name/more"])
def test_a_name_that_leads_nowhere_is_refused_in_plain_words(client, photo, variant):
    with pytest.raises(gradio_client.exceptions.AppError, match=r"There is no variant|Choose at"):
        _colorize(client, photo, variant)


def test_a_folder_of_the_machine_is_no_variant(client, photo, tmp_path):
    plain = Autoencoder(Autoencoder.Config(resolution=32, width=4))
    weights.save(plain, tmp_path / "secret")
    with pytest.raises(gradio_client.exceptions.AppError, match="There is no variant"):
        _colorize(client, photo, str(tmp_path / "secret"))


def test_a_file_that_is_no_photo_is_refused_in_plain_words(client, tmp_path):
    letter = tmp_path / "letter.jpg"
    letter.write_text("Dear Sir")
    with pytest.raises(gradio_client.exceptions.AppError) as refusal:
        _colorize(client, letter, "plain")
    assert "letter.jpg is not a photo colorhub can read" in str(refusal.value)
    assert "/letter.jpg" not in str(refusal.value)  # where it is kept is nobody's business


@pytest.fixture
def page(app: str) -> Iterator[Any]:
    """A browser's page, 1280 pixels wide, that ends with a check that it never left loopback."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium or google-chrome on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    asked: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)  # training may run beside the tests
        page.on("request", lambda request: asked.append(request.url))
        page.goto(app)
        _wait_for_note(page, "This is an example")
        page.locator("#results img").nth(2).wait_for()  # by three variants
        yield page
        browser.close()
    web = [urlsplit(url).hostname for url in asked if url.startswith(("http", "ws"))]
    assert set(web) == {"127.0.0.1"}


def _wait_for_note(page: Any, words: str) -> None:
    page.wait_for_function(
        "words => document.querySelector('#note')?.innerText.includes(words)", arg=words
    )


def _large(page: Any) -> str:
    return page.locator("#pair img").last.get_attribute("src") or ""


def _wait_for_another(page: Any, before: str) -> None:
    page.wait_for_function(
        "before => [...document.querySelectorAll('#pair img')].at(-1)?.src !== before", arg=before
    )


def test_a_visitor_uploads_compares_moves_the_strength_and_downloads(page, photo, tmp_path):
    page.set_input_files("#photo input[type=file]", photo)
    _wait_for_note(page, "harbour.png: 300 x 200 pixels.")
    page.click("#variants input")
    page.keyboard.type("plain")
    page.keyboard.press("Enter")
    before = _large(page)
    page.click("#go")
    _wait_for_note(page, "Done.")
    _wait_for_another(page, before)
    assert page.locator("#results .caption-label").count() == 4  # three were chosen already

    _pick(page, 3, "plain · local ·")

    before = _large(page)
    page.focus("#strength input[type=range]")
    page.keyboard.press("End")  # the keyboard moves it too
    _wait_for_another(page, before)

    page.get_by_role("radio", name="Coloured photo").check()
    page.wait_for_selector('#pair img[alt="Photo colourised by plain"]')

    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "harbour-plain.png"
    download.value.save_as(tmp_path / "strong.png")
    assert _size(tmp_path / "strong.png") == SIZE
    assert _chroma(tmp_path / "strong.png") > 10


def test_a_visitor_adjusts_compares_two_results_and_takes_home_what_was_chosen(page, tmp_path):
    for slider in ("saturation", "warmth"):
        before = _large(page)
        page.focus(f"#{slider} input[type=range]")
        page.keyboard.press("End")
        _wait_for_another(page, before)
    left = page.locator("#pair img").first.get_attribute("src")
    page.click("#against input")
    page.get_by_role("option", name="autoencoder").click()
    page.wait_for_function("left => document.querySelector('#pair img').src !== left", arg=left)

    page.get_by_role("button", name="How to download").click()
    page.get_by_role("radio", name="TIFF").check()
    page.get_by_label("Write into the file which variant coloured it").check()
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename.endswith("-natural.tif")
    download.value.save_as(tmp_path / "result.tif")
    assert b"colorized by natural@" in (tmp_path / "result.tif").read_bytes()
    warm = np.asarray(Image.open(tmp_path / "result.tif").convert("RGB"), dtype=int)
    assert (warm[..., 0] - warm[..., 2]).mean() > 10

    with page.expect_download() as download:
        page.click("#sheet")
    assert download.value.suggested_filename.endswith("-compared.jpg")
    download.value.save_as(tmp_path / "sheet.jpg")
    assert _size(tmp_path / "sheet.jpg")[0] > 1000


def test_several_photos_come_home_in_a_zip(page, photo, tmp_path):
    (tmp_path / "broken.jpg").write_text("no photo")
    page.get_by_role("tab", name="Several photos").click()
    page.set_input_files("#photos input[type=file]", [photo, tmp_path / "broken.jpg"])
    page.locator("#photos").get_by_text("broken").wait_for()
    page.click("#several-go")
    page.locator("#several-note").get_by_text("Done; 1 failed.").wait_for()
    assert "broken.jpg is not a photo" in page.inner_text("#several-table")
    with page.expect_download() as download:
        page.locator("#several-zip a[download]").first.click()
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.namelist() == ["harbour-natural.png", "not-coloured.txt"]


def test_the_models_tab_shows_cards_and_losses(page):
    page.get_by_role("tab", name="Models").click()
    page.locator("#card h1").wait_for()
    page.click("#model input")
    page.get_by_role("option", name="cwgan").click()
    page.locator("#card h1", has_text="cwgan").wait_for()
    page.locator("#losses canvas, #losses svg").first.wait_for()
    assert page.locator("#samples img").count() > 0


def test_a_link_brings_variants_and_sliders_back_but_no_photo(page, app):
    page.goto(f"{app}?variants=plain,noisy&strength=0.5&warmth=9&seed=3&saturation=x")
    _wait_for_note(page, "Done.")
    page.wait_for_function(
        "() => document.querySelector('#results .caption-label')?.innerText.startsWith('plain')"
    )
    assert [caption.split(" · ")[0] for caption in _captions(page)] == ["plain", "noisy"]
    assert page.input_value("#strength input[type=range]") == "0.5"
    assert page.input_value("#warmth input[type=range]") == "0"  # 9 is not possible
    page.get_by_role("button", name="More").click()
    page.click("#link")
    page.locator("#url textarea, #url input").wait_for()
    link = page.input_value("#url textarea, #url input")
    assert "variants=plain%2Cnoisy&seed=3&strength=0.5&" in link and "astronaut" not in link


def _captions(page: Any) -> list[str]:
    return page.locator("#results .caption-label").all_inner_texts()


def test_our_own_variant_is_chosen_first_with_the_next(page):
    assert [caption.split(" · ")[0] for caption in _captions(page)] == FIRST
    page.get_by_role("button", name="More").click()
    page.get_by_text("0 is the likeliest colouring.").wait_for()  # until it is visible


def test_a_visitor_sees_how_unsure_the_colours_are(page):
    page.get_by_role("radio", name="Uncertainty").check()
    page.wait_for_selector('#pair img[alt*="tinted orange where natural is unsure"]')
    legend = page.inner_text("#legend")
    assert "No tint: sure of the colour." in legend
    assert "off by about 40 Lab units or more" in legend
    page.locator("#results .thumbnail-item").nth(1).click()
    page.wait_for_selector('#pair img[alt="Photo colourised by autoencoder"]')
    assert page.inner_text("#legend") == (
        "autoencoder does not say how sure it is: this is its coloured photo."
    )
    page.get_by_role("radio", name="Slider").check()
    page.locator("#legend").wait_for(state="hidden")
    page.locator("#pair img").last.wait_for()


def test_a_visitor_looks_through_other_colourings_and_downloads_one(page, photo):
    page.set_input_files("#photo input[type=file]", photo)
    _wait_for_note(page, "harbour.png: 300 x 200 pixels.")
    page.click("#variants input")
    page.keyboard.type("noisy")
    page.keyboard.press("Enter")
    page.click("#go")
    _wait_for_note(page, "Done.")
    page.click("#others")
    page.get_by_text("Other colourings by natural: pick one.").wait_for()
    captions = [caption.split(" · ") for caption in _captions(page)]
    assert captions[1:5] == [["natural", f"seed {seed}"] for seed in (1, 2, 3, 4)]
    assert [name for name, *_ in captions[5:]] == ["autoencoder", "cwgan", "noisy"]
    _pick(page, 2, "natural · seed 2")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "harbour-natural-seed2.png"

    _pick(page, 5, "autoencoder ·")
    page.click("#others")
    page.get_by_text("autoencoder has only one colouring.").wait_for()
    assert len(_captions(page)) == 8

    _pick(page, 7, "noisy ·")
    page.click("#others")
    page.get_by_text("Other colourings by noisy: pick one.").wait_for()
    assert [caption.split(" · ")[0] for caption in _captions(page)] == [*FIRST, *["noisy"] * 5]
    marked = page.locator("#results .thumbnail-item.selected")
    assert marked.get_attribute("aria-label") == "Thumbnail 4 of 8"


def test_all_variants_of_this_machine_come_on_one_sheet(page, client):
    names = client.predict(api_name="/variants")
    page.get_by_role("button", name="More").click()
    page.click("#all")
    page.locator("#variants .token").nth(len(names) - 1).wait_for()
    page.click("#go")
    page.locator("#results img").nth(len(names) - 1).wait_for(state="attached")
    _wait_for_note(page, "Done.")
    assert {caption.split(" · ")[0] for caption in _captions(page)} == set(names)


def _pick(page: Any, index: int, words: str) -> None:
    before = _large(page)
    page.locator("#results .thumbnail-item").nth(index).click()
    _wait_for_another(page, before)
    page.locator("#view", has_text=words).wait_for()


def test_a_visitor_is_refused_in_plain_words_and_loses_nothing(page, photo, tmp_path):
    letter = tmp_path / "letter.jpg"
    letter.write_text("Dear Sir")
    page.set_input_files("#photo input[type=file]", letter)
    _wait_for_note(page, "letter.jpg is not a photo colorhub can read")
    page.click("#go")
    _wait_for_note(page, "Choose a photo first.")
    page.set_input_files("#photo input[type=file]", photo)
    _wait_for_note(page, "harbour.png")
    page.click("#variants input")
    page.keyboard.type("nobody")  # without Enter: the press of the button ends it
    page.click("#go")
    _wait_for_note(page, "There is no variant 'nobody'")
    page.locator("#table td", has_text="There is no variant").wait_for()
    assert page.locator("#results img").count() == 3


def test_without_the_hub_the_page_says_so_and_works_on(page):
    page.get_by_role("button", name="More").click()
    page.click("#hub")
    _wait_for_note(page, "Variants on this machine still work.")
    page.click("#go")
    _wait_for_note(page, "Done.")


def test_nothing_is_wider_than_the_screen(page, tmp_path):
    page.get_by_role("radio", name="Uncertainty").check()
    page.locator("#legend").wait_for()
    page.click("#others")
    page.get_by_text("Other colourings by natural: pick one.").wait_for()
    for width, scheme in itertools.product((390, 1280), ("light", "dark")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)
        picture = tmp_path / f"{width}-{scheme}.png"
        page.screenshot(path=picture, full_page=True)
        assert _size(picture)[0] == width
