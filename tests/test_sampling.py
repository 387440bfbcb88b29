"""Pictures from noise, in Python, on the command line and in the app."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, make_generator
from PIL import Image

from colorhub import NotFoundError, OptionError, VariantError, cards, hub, weights
from colorhub.cli import main
from colorhub.generators import KINDS
from colorhub.generators.noise import NoiseConfig
from colorhub.sampling import CELL, MOST, Sampler, sheet


def make_noise(folder, architecture="DCGANGenerator", channels=1):
    torch.manual_seed(0)
    generator = KINDS["noise"][architecture](NoiseConfig(28, channels, noise_dim=6, width=4))
    with torch.no_grad():
        for weight in generator.parameters():
            weight.mul_(4)  # what has not learned yet draws grey on grey
    weights.save(generator, folder)
    cards.write(folder)
    return folder


@pytest.fixture(params=KINDS["noise"])
def variant(request, tmp_path):
    return make_noise(tmp_path / "tiny", request.param, channels=3)


def pixels(pictures):
    return np.stack([np.asarray(each) for each in pictures])


def test_a_seed_draws_the_same_pictures_whatever_their_number(variant):
    sampler = Sampler.from_pretrained(variant, device="cpu")
    many = pixels(sampler.sample(37, seed=3))
    assert many.shape == (37, 28, 28, 3)
    for count in (1, 16, 36):
        again = Sampler.from_pretrained(variant, device="cpu").sample(count, seed=3)
        np.testing.assert_array_equal(pixels(again), many[:count])
    assert (pixels(sampler.sample(1, seed=4)) != many[:1]).any()
    assert len({each.tobytes() for each in many}) == 37


def test_drawing_leaves_torch_s_random_state_alone(variant):
    state = torch.get_rng_state()
    Sampler.from_pretrained(variant, device="cpu").sample(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_grey_pictures_come_as_rgb_as_all_do(tmp_path):
    (picture,) = Sampler.from_pretrained(make_noise(tmp_path / "grey"), device="cpu").sample(1)
    assert picture.mode == "RGB"
    assert np.ptp(np.asarray(picture), axis=2).max() == 0


@pytest.mark.parametrize("count", [0, -3, MOST + 1])
def test_a_count_that_cannot_be_is_refused(count, variant):
    with pytest.raises(OptionError, match=rf"The count is {count}; it must be from 1 to {MOST}"):
        Sampler.from_pretrained(variant, device="cpu").sample(count)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_cannot_be_is_refused(seed, variant):
    with pytest.raises(OptionError, match="The seed is"):
        Sampler.from_pretrained(variant, device="cpu").sample(1, seed=seed)


def test_what_does_not_draw_is_refused_by_name(tmp_path):
    weights.save(make_generator(), tmp_path / "photo")
    with pytest.raises(VariantError, match="photo is a variant of kind photo"):
        Sampler.from_pretrained(tmp_path / "photo")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VariantError, match=r"empty is no colorhub variant: it has no config\.json"):
        Sampler.from_pretrained(tmp_path / "empty")
    with pytest.raises(NotFoundError, match="There is no variant 'absent'"):
        Sampler.from_pretrained("absent")


def test_a_sheet_holds_every_picture_enlarged_by_whole_pixels():
    drawn = [Image.new("RGB", (28, 28), (level, 0, 0)) for level in (10, 20, 30, 40, 50)]
    whole = sheet(drawn)
    side = 28 * (CELL // 28)
    assert whole.size == (3 * (side + 2) + 2, 2 * (side + 2) + 2)
    found = {whole.getpixel((x, y))[0] for x in range(5, whole.width, 30) for y in (30, 90)}
    assert {10, 20, 30, 40, 50} <= found


def test_the_command_writes_a_sheet(variant, tmp_path, capsys):
    words = ["sample", "--variant", str(variant), "--count", "4", "--output"]
    for name in ("one.png", "two.png"):
        assert main([*words, str(tmp_path / name)]) == 0
    assert main([*words, str(tmp_path / "three.png"), "--seed", "1"]) == 0
    one, two, three = (Image.open(tmp_path / f"{name}.png") for name in ("one", "two", "three"))
    assert one.size == (2 * 58 + 2, 2 * 58 + 2)
    assert one.tobytes() == two.tobytes() != three.tobytes()
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "one.png")


def test_the_command_refuses_in_one_sentence(variant, tmp_path, capsys):
    weights.save(make_generator(), tmp_path / "photo")
    output = str(tmp_path / "sheet.png")
    for words, status, said in (
        (["--variant", str(variant), "--count", "0", "--output", output], 2, "The count is 0"),
        (["--variant", str(variant), "--seed", "-1", "--output", output], 2, "The seed is -1"),
        (["--variant", str(tmp_path / "photo"), "--output", output], 1, "of kind photo"),
        (["--variant", str(variant), "--output", str(tmp_path / "sheet.txt")], 1, "endings"),
    ):
        assert main(["sample", *words]) == status
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1
    assert not list(tmp_path.glob("sheet*"))


def test_variants_that_draw_are_listed_published_and_fetched(
    hub_server, empty_cache, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(tmp_path / "variants"))
    monkeypatch.setenv("HF_TOKEN", "owner-token")
    folder = make_noise(tmp_path / "variants" / "blots")
    assert "blots" in hub.list_variants(kind="noise")
    assert "blots" not in hub.list_variants()
    assert main(["publish", str(folder), "--repo_id", "owner/blots"]) == 0
    capsys.readouterr()
    there = Sampler.from_pretrained("owner/blots", device="cpu").sample(2)
    here = Sampler.from_pretrained("blots", device="cpu").sample(2)
    np.testing.assert_array_equal(pixels(there), pixels(here))


BUNDLED = [each.folder for each in hub.local_variants("noise").values()]


@pytest.mark.parametrize("folder", BUNDLED, ids=lambda folder: folder.name)
def test_every_bundled_variant_is_measured_and_its_card_is_current(folder):
    assert (folder / "model.safetensors").stat().st_size <= 12e6
    before = (folder / "README.md").read_text()
    front = cards.front_matter(before)
    assert {"colorhub-noise", "unconditional-image-generation"} <= set(front["tags"])
    assert json.loads((folder / "results.json").read_text())["tables"]
    cards.write(folder)
    assert (folder / "README.md").read_text() == before
    pictures = pixels(Sampler.from_pretrained(folder.name, device="cpu").sample(16))
    assert pictures.std(axis=0).mean() > 5  # levels: it does not draw one picture


def test_the_app_draws_and_says_what_it_cannot(tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
    from colorhub import invent

    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(tmp_path / "variants"))
    folder = make_noise(tmp_path / "variants" / "blots-of-ink")
    expected = sheet(Sampler.from_pretrained(folder, device="cpu").sample(9, seed=5))
    assert invent.drawn("blots-of-ink", 5, 9).tobytes() == expected.tobytes()
    shown, said = invent._run("blots-of-ink", 5, 9)
    assert shown.alt_text == "9 pictures drawn by blots-of-ink, seed 5" and "9 pictures" in said
    for variant, seed, count, words in (
        ("natural", 0, 9, "There is no variant 'natural' that draws"),
        ("../blots-of-ink", 0, 9, "no variant"),
        ("blots-of-ink", None, 9, "The seed must be a whole number"),
        ("blots-of-ink", 0, 0.5, "The number must be a whole number"),
        ("blots-of-ink", 0, invent.MOST + 1, "from 1 to 100"),
        ("blots-of-ink", -1, 1, "The seed is -1"),
    ):
        with pytest.raises(OptionError, match=words):
            invent.drawn(variant, seed, count)
        assert 'role="status"' in invent._run(variant, seed, count)[1]


def test_the_tab_is_laid_out_and_no_part_of_the_api():
    pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
    code = (
        "import gradio as gr; from colorhub import invent\n"
        "with gr.Blocks() as demo: invent.tab()\n"
        "print(len(demo.fns), demo.get_api_info()['named_endpoints'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "1 {}", done.stderr
