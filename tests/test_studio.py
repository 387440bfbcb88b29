"""What the app remembers and paints: other colourings of a photo, and how unsure they are."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_generator, wait_for
from PIL import Image

from colorhub import weights
from colorhub.color import rgb_to_lab
from colorhub.colorizer import Colorizer
from colorhub.errors import OptionError, VariantError
from colorhub.hub import resolve

pytest.importorskip("gradio", reason="the app needs the extra colorhub[app]")
studio = pytest.importorskip("colorhub.studio")
clicks = pytest.importorskip("colorhub.clicks")

VARIANTS = {"guesser": "MobileUNet", "noisy": "ResUNet", "plain": "Autoencoder"}


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: Any) -> Any:
    """What a page shows that has compared natural and plain."""
    for name, architecture in VARIANTS.items():
        weights.save(make_generator(architecture), tmp_path / "variants" / name)
    monkeypatch.setenv("COLORHUB_VARIANTS_DIR", str(tmp_path / "variants"))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    photo = str(tmp_path / "harbour.png")
    across, down = np.meshgrid(np.linspace(40, 220, 300), np.linspace(0, 30, 200))
    Image.fromarray((across + down).astype(np.uint8)).save(photo)
    names = tuple(studio.Colouring(photo, resolve(name), 0) for name in ("guesser", "plain"))
    return studio.Shown(photo, "", 0, names)


def _seeds(shown: Any) -> list[tuple[str, int]]:
    return [(each.variant.name, each.seed) for each in shown.colourings]


def test_other_colourings_stand_beside_their_own_and_differ(shown):
    *_, grown = studio.others(shown, shown.colourings[0])
    assert _seeds(grown) == [*(("guesser", seed) for seed in range(5)), ("plain", 0)]
    means = {tuple(studio.colours(each).ab.mean((0, 2, 3)).tolist()) for each in grown.colourings}
    assert len(means) == 6
    captions = [grown.caption(studio.colours(each)) for each in grown.colourings]
    assert captions[0].startswith("guesser · local · ")
    assert captions[2] == "guesser · seed 2"


def test_other_colourings_leave_out_the_seed_that_is_there(shown):
    seeded = replace(
        shown, seed=2, colourings=tuple(replace(each, seed=2) for each in shown.colourings)
    )
    *_, grown = studio.others(seeded, seeded.colourings[0])
    assert [seed for _, seed in _seeds(grown)] == [2, 0, 1, 3, 4, 2]


def test_no_colouring_is_offered_twice_though_seeds_begin_again(shown):
    # Seed 6 of a variant with five alternatives is the likeliest once more.
    first = replace(shown.colourings[0], seed=6)
    *_, grown = studio.others(replace(shown, seed=6, colourings=(first,)), first)
    assert [seed for _, seed in _seeds(grown)] == [6, 1, 2, 3, 4]


def test_other_colourings_take_the_place_of_another_variants(shown):
    noisy = replace(shown.colourings[0], variant=resolve("noisy"))
    shown = replace(shown, colourings=(*shown.colourings, noisy))
    *_, grown = studio.others(shown, shown.colourings[0])
    *_, grown = studio.others(grown, noisy)
    names = [("guesser", 0), ("plain", 0), *(("noisy", seed) for seed in range(5))]
    assert _seeds(grown) == names


def test_other_colourings_that_are_there_do_not_come_again(shown):
    first, *_, grown = studio.others(shown, shown.colourings[0])
    assert list(studio.others(grown, grown.colourings[3])) == []
    assert len(list(studio.others(first, first.colourings[0]))) == 3  # it was stopped


def test_a_variant_of_one_colouring_says_so(shown):
    with pytest.raises(OptionError, match=r"^plain has only one colouring\.$"):
        next(studio.others(shown, shown.colourings[1]))


def test_a_network_is_asked_once_how_sure_it_is_and_alone(shown, monkeypatch):
    asked = []
    answer = Colorizer.uncertainty_of

    def counted(self, lightness):
        assert studio._model._turn.locked()
        asked.append(lightness)
        return answer(self, lightness)

    monkeypatch.setattr(Colorizer, "uncertainty_of", counted)
    natural, plain = shown.colourings
    first, other = studio.uncertainty(natural), studio.uncertainty(replace(natural, seed=3))
    assert first is other  # it is of the photo, whichever of its colourings is looked at
    assert first.shape[1] == 1
    assert studio.uncertainty(plain) is None
    assert len(asked) == 1


def test_a_network_that_fails_is_told_in_a_sentence(shown, monkeypatch):
    def broken(self, lightness):
        raise RuntimeError("out of memory at 0xdeadbeef")

    monkeypatch.setattr(Colorizer, "uncertainty_of", broken)
    with pytest.raises(VariantError, match="guesser failed for a reason that only the server's"):
        studio.uncertainty(shown.colourings[0])


def test_a_device_that_is_lost_is_replaced_by_the_cpu_for_this_request(shown, monkeypatch):
    answer, devices = Colorizer.__call__, ["cuda"]

    def lost(self, lightness, *, seed=0):
        if devices:
            devices.clear()
            raise RuntimeError("CUDA error: unspecified launch failure")
        return answer(self, lightness, seed=seed)

    monkeypatch.setattr(Colorizer, "__call__", lost)
    monkeypatch.setattr(studio, "pick_device", lambda device: torch.device("cuda"))
    outcomes = dict(studio.compared(shown.photo, ["guesser", "plain"], 3))
    first = outcomes["guesser"]
    assert first.trouble == "the accelerator failed (RuntimeError), so the CPU did it"
    assert first.ab.shape[:2] == (1, 2)
    assert outcomes["plain"].trouble == ""  # the next has its try
    remark = clicks.rows(outcomes)[0][-1]
    assert "the accelerator failed" in remark
    assert "guesser: the accelerator failed" in " ".join(clicks._said(outcomes, [*outcomes]))


def test_a_device_without_memory_is_replaced_by_the_cpu_for_this_request(shown, monkeypatch):
    answer, load = Colorizer._forward, studio._load

    def full(self, network, lightness):
        if self.device.type == "meta":
            raise torch.OutOfMemoryError("meta is out of memory")
        return answer(self, network, lightness)

    def loaded(variant, written):
        colorizer = load(variant, written)
        if not loads:
            colorizer.device = torch.device("meta")
        loads.append(colorizer)
        return colorizer

    loads: list[Colorizer] = []
    monkeypatch.setattr(Colorizer, "_forward", full)
    monkeypatch.setattr(studio, "_load", loaded)
    colouring = replace(shown.colourings[0], seed=4)
    with pytest.warns(UserWarning, match="colouring on the CPU instead"):
        result = studio.colours(colouring)
    assert result.trouble == "the meta was out of memory, so the CPU did it"
    assert result.device == "cpu"
    assert studio.colours(replace(colouring, seed=5)).trouble == ""
    assert loads[-1] is not loads[0]  # the device is tried anew


def test_visitors_who_wait_for_the_same_variant_are_served_together(shown, tmp_path, monkeypatch):
    photos = []
    for number in range(5):
        path = tmp_path / f"visitor-{number}.png"
        Image.new("L", (60, 40), 40 * number).save(path)
        photos.append(str(path))
    alone = [studio.colours(replace(shown.colourings[1], photo=photo)).ab for photo in photos]
    studio._results.clear()
    sizes, answer, first = [], Colorizer.__call__, threading.Event()

    def slow(self, lightness, *, seed=0):
        sizes.append(len(lightness))
        if len(sizes) == 1:
            first.wait(30)
        return answer(self, lightness, seed=seed)

    monkeypatch.setattr(Colorizer, "__call__", slow)
    with ThreadPoolExecutor(5) as visitors:
        found = [
            visitors.submit(studio.colours, replace(shown.colourings[1], photo=photo))
            for photo in photos
        ]
        key = next(iter(wait_for(lambda: studio._model._waiting)))
        wait_for(lambda: len(studio._model._waiting.get(key, ())) == 4)
        first.set()
    assert sizes == [1, 4]
    for one, each in zip(alone, found, strict=True):
        torch.testing.assert_close(each.result().ab, one, rtol=0, atol=1e-3)


def test_the_tint_has_one_scale_from_none_to_full(shown):
    result = studio.colours(shown.colourings[0])
    unsure = torch.tensor([0.0, 20.0, 40.0, 80.0]).repeat_interleave(8).view(1, 1, 1, 32)
    with Image.open(studio.veiled(shown.photo, result, unsure, 300)) as picture:
        seen = np.asarray(picture, dtype=float)
    with Image.open(shown.photo) as picture:
        grey = np.asarray(picture.convert("RGB"), dtype=float)
    for middle, part in ((30, 0), (110, 0.5), (190, 1), (270, 1)):
        opacity = part * studio.OPACITY
        wanted = grey[:, middle] * (1 - opacity) + np.array(studio.TINT) * opacity
        assert np.abs(seen[:, middle] - wanted).max() < 4  # JPEG


# How colours look to people without one of the three kinds of cones, in linear sRGB: Machado,
# Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# 2009, the tables of severity 1.
SIGHT = {
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("grey", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_more_tint_is_seen_as_more_over_any_grey_by_everyone(sight, grey):
    opacity = np.linspace(0, studio.OPACITY, 9)[:, None]  # every 5 Lab units of uncertainty
    rgb = grey * (1 - opacity) + np.array(studio.TINT) / 255 * opacity
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(SIGHT[sight]).T, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    lab = rgb_to_lab(torch.tensor(rgb).T[None, :, :, None])[0, :, :, 0]
    from_grey = (lab - lab[:, :1]).norm(dim=0).diff()
    assert from_grey.min() > 2.3  # a just noticeable difference
