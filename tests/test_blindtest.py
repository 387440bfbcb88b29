"""The blind test: a visitor in a real browser, what is kept of a vote, and where it goes."""

import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, make_photo, serving
from PIL import Image

from colorhub import __version__, weights
from colorhub.color import rgb_to_lab
from colorhub.colorizer import to_tensor
from colorhub.errors import HubError, OptionError, PhotoError
from colorhub.files import sha256
from colorhub.generators import Autoencoder
from colorhub.votes import REAL, Vote

pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")

from test_app import ARGUMENTS, CHROMIUM

from colorhub import booth
from colorhub.booth import Box, Pairs, Visit

VARIANTS = {"crimsonish": (0.4, 0.1), "emeraldish": (-0.4, 0.1), "azureish": (0.0, -0.4)}
PAGE = """
import gradio as gr
from colorhub import blindtest, booth
from colorhub.look import CSS, theme
booth.list_variants = lambda: {names}  # not those that come with colorhub, which take longer
with gr.Blocks() as demo, gr.Tabs(), gr.Tab("Blind test"):
    blindtest.tab()
demo.launch(server_port={port}, theme=theme(), css=CSS, ssr_mode=False, footer_links=[])
"""
HEAR = """
const parse = JSON.parse;
window.heard = [];
JSON.parse = (text, ...rest) => { window.heard.push(text); return parse(text, ...rest); };
"""
VOTE = Vote("ab" * 32, ("natural", REAL), ("1234567890", ""), "first", "0.1.0")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three variants that give one colour each, and a colourful photo."""
    folder = tmp_path_factory.mktemp("blindtest")
    for name, colour in VARIANTS.items():
        network = Autoencoder(Autoencoder.Config(resolution=32, width=4))
        last = network.decoder[-2]
        assert isinstance(last, torch.nn.Conv2d) and last.bias is not None
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(torch.tensor(colour))
        weights.save(network, folder / "variants" / name)
    make_photo(300, 200).save(folder / "harbour.png")
    return folder


def _served(home: Path, **environment: str) -> contextlib.AbstractContextManager[str]:
    page = PAGE.replace("{names}", str(list(VARIANTS)))
    return serving(page, home, HF_HUB_OFFLINE="1", **environment)


@pytest.fixture(scope="module")
def keeping(home: Path) -> Iterator[str]:
    with _served(home, COLORHUB_VOTES=str(home / "kept" / "votes.jsonl")) as address:
        yield address


@pytest.fixture(scope="module")
def forgetting(home: Path) -> Iterator[str]:
    with _served(home) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium or google-chrome on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield browser
        browser.close()


class Visitor:
    """Somebody at a page, who notes down all that the server says."""

    def __init__(self, browser: Any, address: str, width: int, scheme: str = "light") -> None:
        self.width = width
        self.page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page.set_default_timeout(60_000)
        self.page.add_init_script(HEAR)
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.locator("#blind-board p, #blind-board table").first.wait_for()

    def ask(self, button: str = "Show me two") -> None:
        """Press the button and wait for the next question."""
        self.page.get_by_role("button", name=button).click()
        self.page.locator("#blind-answers").wait_for()
        self.page.wait_for_function("document.activeElement.tagName === 'H2'")

    def answer(self, button: str) -> str:
        """What the page says after a vote."""
        self.page.get_by_role("button", name=button, exact=True).click()
        self.page.locator("#blind-next").wait_for()
        self.page.wait_for_function("document.activeElement.id === 'blind-next'")
        return str(self.page.inner_text("#blind-verdict"))

    def sides(self) -> list[Any]:
        return [self.page.locator(f"#blind-{side} img") for side in ("first", "second")]

    def pictures(self) -> list[bytes]:
        """The bytes of both pictures."""
        return [
            self.page.request.get(side.get_attribute("src") or "").body() for side in self.sides()
        ]

    def told(self) -> str:
        """The page as it stands, every address that it asked for, and every message it read."""
        heard = self.page.evaluate("window.heard.join('\\n')")
        return "\n".join([self.page.content(), *self.asked, heard])

    def fits(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth") <= self.width)


def _colour(picture: bytes) -> torch.Tensor:
    with Image.open(BytesIO(picture)) as opened:
        return rgb_to_lab(to_tensor(opened))[0, 1:].mean((1, 2))


def _seen(pictures: list[bytes], truth: Path) -> list[str]:
    """Who made each picture, by its mean colour."""
    known = {name: 110 * torch.tensor(ab).tanh() for name, ab in VARIANTS.items()}
    known[REAL] = _colour(truth.read_bytes())
    return [
        min(known, key=lambda name: float((known[name] - _colour(picture)).norm()))
        for picture in pictures
    ]


def _kept(home: Path) -> list[dict[str, Any]]:
    path = home / "kept" / "votes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("width", [1280, 360])
def test_a_visitor_says_which_looks_more_natural_and_then_learns_the_names(
    home, keeping, browser, width
):
    visitor, before = Visitor(browser, keeping, width), len(_kept(home))
    visitor.page.set_input_files("#blind-photo input[type=file]", home / "harbour.png")
    visitor.page.get_by_text("harbour.png is chosen.").wait_for()
    visitor.ask()
    assert visitor.page.inner_text("#blind-question") == "Which looks more natural?"
    alts = [side.get_attribute("alt") for side in visitor.sides()]
    assert alts == ["First result", "Second result"]
    boxes = [side.bounding_box() for side in visitor.sides()]
    assert (boxes[0]["y"] == boxes[1]["y"]) == (width == 1280)
    assert visitor.fits()
    names = _seen(visitor.pictures(), home / "harbour.png")
    said = visitor.answer("Second")
    assert said == f"First: by {names[0]}. Second: by {names[1]}. Your vote is kept."
    assert visitor.sides()[0].get_attribute("alt") == f"Photo colourised by {names[0]}"
    (vote,) = _kept(home)[before:]
    assert vote == {
        "photo": sha256(home / "harbour.png"),
        "variants": names,
        "revisions": [sha256(home / "variants" / name / weights.WEIGHTS) for name in names],
        "choice": "second",
        "version": __version__,
    }
    visitor.page.locator("#blind-board td", has_text=f"{names[1]}@").wait_for()
    assert "preliminary" in visitor.page.inner_text("#blind-board")
    pairs = [set(names)]
    for choice in ("Tie", "Both bad"):
        visitor.ask("Next pair")
        pairs.append(set(_seen(visitor.pictures(), home / "harbour.png")))
        visitor.answer(choice)
    assert [vote["choice"] for vote in _kept(home)[before + 1 :]] == ["tie", "both bad"]
    assert all(pairs.count(pair) == 1 for pair in pairs)  # three pairs of three variants
    visitor.page.get_by_role("button", name="Next pair").click()
    visitor.page.get_by_text("You have seen every pair on this photo").wait_for()
    assert visitor.fits()


@pytest.mark.parametrize("width", [1280, 360])
def test_a_visitor_looks_for_the_real_photo(home, keeping, browser, width):
    visitor, before = Visitor(browser, keeping, width, "dark"), len(_kept(home))
    visitor.page.set_input_files("#blind-photo input[type=file]", home / "harbour.png")
    visitor.page.get_by_text("harbour.png is chosen.").wait_for()
    visitor.page.get_by_role("radio", name="Which one is the real photo?").check()
    visitor.ask()
    assert not visitor.page.get_by_role("button", name="Both bad").is_visible()
    names = _seen(visitor.pictures(), home / "harbour.png")
    assert names.count(REAL) == 1
    real = names.index(REAL)
    said = visitor.answer(("First", "Second")[real])
    assert f"{('First', 'Second')[real]}: the real photo." in said
    assert "You found the real photo. Your vote is kept." in said
    (vote,) = _kept(home)[before:]
    assert vote["variants"] == names and vote["revisions"][real] == ""
    assert vote["choice"] == ("first", "second")[real]
    visitor.ask("Next pair")
    names = _seen(visitor.pictures(), home / "harbour.png")
    wrong = 1 - names.index(REAL)
    assert "You took the result for real." in visitor.answer(("First", "Second")[wrong])
    assert visitor.fits()


@pytest.mark.parametrize("mode", ["Which looks more natural?", "Which one is the real photo?"])
def test_nothing_tells_the_variant_before_the_vote(forgetting, browser, mode):
    visitor = Visitor(browser, forgetting, 1280)  # whose leaderboard has no names either
    visitor.page.locator("#blind-examples button").nth(1).click()  # an example, by the keyboard:
    visitor.page.get_by_role("radio", name=mode).focus()
    visitor.page.keyboard.press("Space")
    visitor.page.focus("#blind-go")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_function("document.activeElement.tagName === 'H2'")
    told, pictures = visitor.told(), visitor.pictures()
    assert "First result" in told.split("</html>")[1]  # messages are heard
    for name in VARIANTS:
        assert name not in told
        assert not any(name.encode() in picture for picture in pictures)
    assert "The real photo" not in told
    sizes = {Image.open(BytesIO(picture)).size for picture in pictures}
    tables = {str(Image.open(BytesIO(picture)).info) for picture in pictures}
    assert len(sizes) == len(tables) == 1
    for side in visitor.sides():
        assert (side.get_attribute("src") or "").endswith("/picture.jpg")
    for _ in range(6):  # from the question on, past what the pictures offer
        visitor.page.keyboard.press("Tab")
        if visitor.page.evaluate("document.activeElement.innerText") == "First":
            break
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_function("document.activeElement.id === 'blind-next'")
    assert sum(name in visitor.told() for name in VARIANTS) in (1, 2)  # the test can tell


def test_a_vote_that_cannot_be_kept_is_told_in_one_sentence(home, keeping, browser):
    visitor = Visitor(browser, keeping, 360)
    visitor.ask()
    path = home / "kept" / "votes.jsonl"
    aside = path.rename(path.with_name("aside")) if path.exists() else None
    path.mkdir(parents=True)
    try:
        said = visitor.answer("First")
        assert said.endswith("Your vote could not be kept. The file of votes cannot be written.")
        assert str(path.parent) not in visitor.told()
    finally:
        path.rmdir()
        if aside:
            aside.rename(path)


def test_without_a_place_for_votes_none_is_kept_and_the_page_says_so(home, forgetting, browser):
    visitor, before = Visitor(browser, forgetting, 360), set(home.rglob("*.jsonl"))
    assert visitor.page.inner_text("#blind-board") == "There is none: votes are not kept here."
    visitor.ask()
    assert visitor.answer("Tie").endswith("Votes are not kept here.")
    assert set(home.rglob("*.jsonl")) == before
    grey = make_photo(90, 60).convert("L")
    grey.save(home / "grey.png")
    visitor.page.set_input_files("#blind-photo input[type=file]", home / "grey.png")
    visitor.page.get_by_text("grey.png is chosen.").wait_for()
    visitor.page.get_by_role("radio", name="Which one is the real photo?").check()
    visitor.page.click("#blind-go")
    visitor.page.get_by_text("This photo has hardly any colours of its own").wait_for()
    (home / "letter.jpg").write_text("Dear Sir")
    visitor.page.set_input_files("#blind-photo input[type=file]", home / "letter.jpg")
    visitor.page.get_by_text("letter.jpg is not a photo colorhub can read").wait_for()
    visitor.page.click("#blind-go")
    visitor.page.get_by_text("Choose a photo first.").wait_for()
    assert "Traceback" not in (home / "log").read_text()


def test_every_pair_comes_up_evenly_and_never_twice_in_a_visit(home, monkeypatch):
    monkeypatch.setattr(booth, "list_variants", lambda: [*VARIANTS, "fourth"])
    random.seed(0)
    pairs, counts, sides = Pairs(), Counter[frozenset[str]](), Counter[str]()
    for _ in range(20):
        visit = Visit().of(home / "harbour.png")
        for _ in range(random.randint(1, 6)):
            visit = pairs.next(visit, real=False)
            assert visit.question is not None
            counts[frozenset(visit.question.variants)] += 1
            sides[visit.question.variants[0]] += 1
        assert len(visit.asked) == len(set(visit.asked))
    assert len(counts) == 6 and max(counts.values()) - min(counts.values()) <= 2
    assert len(sides) == 4  # each is first now and then
    visit = Visit().of(home / "harbour.png")
    for _ in range(4):
        visit = pairs.next(visit, real=True)
    with pytest.raises(OptionError, match="every pair"):
        pairs.next(visit, real=True)
    assert pairs.next(visit.of(ROOT / "README.md"), real=False)  # another file, other questions


def test_there_is_no_pair_without_a_photo_or_of_one_variant(home, monkeypatch):
    with pytest.raises(PhotoError, match="Choose a photo"):
        Pairs().next(Visit(), real=True)
    visit = Visit().of(home / "harbour.png")
    monkeypatch.setattr(booth, "list_variants", lambda: ["lonely"])
    with pytest.raises(OptionError, match="lonely is alone"):
        Pairs().next(visit, real=False)
    monkeypatch.setattr(booth, "list_variants", lambda: [])
    with pytest.raises(OptionError, match="no variants on this machine"):
        Pairs().next(visit, real=True)


def test_votes_go_to_a_data_set_on_the_hub_and_none_counts_twice(hub_server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "owner-token")
    monkeypatch.setenv("COLORHUB_VOTES_DATASET", "owner/votes")
    schedulers = []
    for round in (1, 2):  # two processes, one after the other
        box = booth.box()
        assert box is not None and len(box.all()) == round - 1
        box.add(VOTE)
        schedulers.append(box._scheduler)
        box._scheduler.trigger().result()
        assert box.all() == [VOTE] * round
        box._scheduler.stop()
    repo = hub_server.repos["dataset", "owner/votes"]
    files = [path for path in repo.at("main").files if path.endswith(".jsonl")]
    assert repo.private and len(files) == 2
    assert all(json.loads(repo.at("main").files[path])["choice"] == "first" for path in files)


def test_while_the_hub_is_down_votes_are_refused_and_it_is_asked_again_later(
    hub_server, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "owner-token")
    hub_server.fault(path="/api/repos/create", status=403)
    box = Box(dataset="owner/votes")
    for _ in range(2):
        with pytest.raises(HubError, match="cannot be reached just now"):
            box.add(VOTE)
    assert hub_server.requests.count(("POST", "/api/repos/create")) == 1
    hub_server.clear_faults()
    monkeypatch.setattr(booth, "PATIENCE", 0.0)
    box.add(VOTE)
    assert box.all() == [VOTE]
    box._scheduler.stop()


def test_no_place_for_votes_unless_one_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("COLORHUB_VOTES", raising=False)
    monkeypatch.delenv("COLORHUB_VOTES_DATASET", raising=False)
    assert booth.box() is None
    monkeypatch.setenv("COLORHUB_VOTES", str(tmp_path / "votes.jsonl"))
    box = booth.box()
    assert box is not None and box.all() == []
    box.add(VOTE)
    assert box.all() == [VOTE]
