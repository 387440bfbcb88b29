from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from conftest import TINY, make_generator, make_photo
from PIL import Image
from skimage.color import rgb2lab

from colorhub import Colorizer, NotFoundError, OptionError, PhotoError
from colorhub.colorizer import paint
from colorhub.generators import ARCHITECTURES


@pytest.fixture
def colorizer():
    return Colorizer(make_generator(), device="cpu")


def colorizer_of(architecture, **changes):
    generator = ARCHITECTURES[architecture](replace(TINY[architecture], **changes))
    return Colorizer(generator, device="cpu")


def lightness_of(picture):
    return rgb2lab(np.asarray(picture.convert("RGB")) / 255)[..., 0]


@pytest.mark.parametrize("size", [(48, 40), (33, 21), (1, 1), (300, 2), (3, 500), (1001, 777)])
def test_the_result_has_the_photo_s_size_whatever_it_is(colorizer, size):
    result = colorizer.colorize(make_photo(*size))
    assert result.mode == "RGB"
    assert result.size == size


def test_the_result_keeps_the_photo_s_own_lightness(colorizer):
    grey = make_photo(400, 300).convert("L")
    result = colorizer.colorize(grey)
    assert np.ptp(np.asarray(result), axis=2).max() > 10  # it has colour
    # Rounding to 8 bits moves L by up to half a level of the brightest channel's slope.
    difference = np.abs(lightness_of(result) - lightness_of(grey))
    assert difference.max() < 0.6
    assert difference.mean() < 0.15


def test_lightness_is_kept_even_where_colours_leave_the_gamut():
    grey = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (16, 1)))
    result = paint(grey, torch.tensor([90.0, -90.0]).view(1, 2, 1, 1))
    assert np.abs(lightness_of(result) - lightness_of(grey)).max() < 0.6


def test_a_colour_photo_is_treated_as_its_lightness(colorizer):
    colored = make_photo(64, 64)
    rgb = np.asarray(colored)
    # The grey of the same lightness, by bisection over all levels.
    levels = rgb2lab(np.arange(256)[:, None, None].repeat(3, axis=2) / 255)[:, 0, 0]
    same = np.abs(levels[:, None, None] - lightness_of(colored)).argmin(axis=0).astype(np.uint8)
    one, two = (np.asarray(colorizer.colorize(each), int) for each in (rgb, same))
    assert np.abs(one - two).max() <= 6


def test_strength_zero_is_grey_and_more_is_stronger(colorizer, photo):
    def chroma(strength):
        lab = rgb2lab(np.asarray(colorizer.colorize(photo, strength=strength)) / 255)
        return np.hypot(lab[..., 1], lab[..., 2]).mean()

    assert chroma(0) < 0.1 < chroma(0.5) < chroma(1) < chroma(1.5)
    for wrong in (-0.1, float("nan")):
        with pytest.raises(OptionError, match="strength"):
            colorizer.colorize(photo, strength=wrong)


def test_an_ab_gain_takes_the_place_of_the_variant_s_own(colorizer, photo):
    colorizer.generator.config = replace(colorizer.generator.config, ab_gain=128.0)

    def colorize(**options):
        return colorizer.colorize(photo, **options).tobytes()

    assert colorize(ab_gain=256) == colorize(strength=2) != colorize()
    assert colorize(ab_gain=128) == colorize() == colorize(ab_gain=None)
    twice = colorizer.predict(photo, ab_gain=256)
    torch.testing.assert_close(twice, 2 * colorizer.predict(photo))
    for wrong in (0, -128.0, float("nan"), float("inf")):
        with pytest.raises(OptionError, match=f"ab_gain is {wrong}; it must be above 0"):
            colorizer.colorize(photo, ab_gain=wrong)


def test_a_seed_fixes_the_colours_and_another_gives_others(colorizer, photo):
    first, again, other = (np.asarray(colorizer.colorize(photo, seed=s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@torch.no_grad()
def test_seeds_go_round_the_likeliest_colours_and_the_alternatives():
    colorizer = Colorizer(make_generator("MobileUNet"), device="cpu")
    lightness = torch.rand(2, 1, 32, 40) * 2 - 1
    choices = [colorizer.generator(lightness, choice) for choice in range(6)]
    for one, other in combinations(choices, 2):
        assert (one - other).abs().max() > 0.01
    for seed, choice in ((0, 0), (1, 1), (5, 5), (6, 0), (7, 1), (2**63 - 1, (2**63 - 1) % 6)):
        torch.testing.assert_close(colorizer(lightness, seed=seed), choices[choice])


@pytest.mark.parametrize("seed", [-1, 2**63])
@pytest.mark.parametrize("architecture", ["ResUNet", "MobileUNet"])
def test_a_seed_that_is_none_is_refused(architecture, seed):
    with pytest.raises(OptionError, match=f"seed is {seed}; it must be 0 or more"):
        colorizer_of(architecture)(torch.zeros(1, 1, 32, 32), seed=seed)


@pytest.mark.parametrize(
    ("architecture", "changes", "several"),
    [
        ("ResUNet", {}, True),
        ("ResUNet", {"noise_dim": 0}, False),
        ("Autoencoder", {}, False),
        ("MobileUNet", {}, True),
        ("MobileUNet", {"alternatives": 0}, False),
    ],
)
def test_a_variant_has_alternatives_where_another_seed_gives_others(architecture, changes, several):
    colorizer = colorizer_of(architecture, **changes)
    lightness = torch.rand(1, 1, 32, 32) * 2 - 1
    alike = torch.equal(colorizer(lightness, seed=0), colorizer(lightness, seed=1))
    assert colorizer.has_alternatives is several and alike is not several


def test_a_variant_that_knows_says_how_unsure_its_colours_are(photo):
    colorizer = Colorizer(make_generator("MobileUNet"), device="cpu")
    assert colorizer.knows_uncertainty
    unsure = colorizer.uncertainty(photo)
    assert unsure.shape == (1, 1, 32, round(32 * photo.width / photo.height))
    assert unsure.dtype == torch.float32 and (unsure > 0).all()
    grey = colorizer.uncertainty(np.asarray(photo.convert("L")))
    assert grey.shape == unsure.shape
    # It is in Lab units: of a scale of 0.1, which is 10 of them, the root of six times its square;
    # a saturation of 1.5 adds half of what is learned, here 0.12 and 0.16.
    scale, mean = colorizer.generator.scale, colorizer.generator.mean
    with torch.no_grad():
        scale.weight.zero_()
        scale.bias.fill_(np.log(0.1))
        mean.weight.zero_()
        mean.bias.copy_(torch.tensor([0.12, 0.16]))
    expected = torch.full_like(unsure, (600 + 10**2) ** 0.5)
    torch.testing.assert_close(colorizer.uncertainty(photo), expected)


@pytest.mark.parametrize("architecture", ["ResUNet", "Autoencoder", "MobileUNet"])
def test_a_variant_that_does_not_know_how_sure_it_is_says_so(architecture, photo):
    changes = {"alternatives": 0} if architecture == "MobileUNet" else {}
    colorizer = colorizer_of(architecture, **changes)
    assert not colorizer.knows_uncertainty
    with pytest.raises(OptionError, match=f"{architecture} does not say how sure it is"):
        colorizer.uncertainty(photo)


def test_colouring_does_not_touch_the_caller_s_random_state(colorizer, photo):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    colorizer.colorize(photo)
    assert torch.equal(torch.rand(1), expected)


def test_strips_make_no_difference(colorizer, monkeypatch):
    photo = make_photo(120, 90)
    whole = np.asarray(colorizer.colorize(photo))
    monkeypatch.setattr("colorhub.colorizer.STRIP", 500)
    strips = np.asarray(colorizer.colorize(photo))
    assert np.abs(whole.astype(int) - strips).max() <= 1


def test_chroma_is_brought_to_full_size_by_bicubic_interpolation():
    ab = torch.randn(1, 2, 9, 12) * 8
    photo = Image.new("L", (96, 72), 128)
    result = rgb2lab(np.asarray(paint(photo, ab)) / 255)[..., 1:]
    expected = torch.nn.functional.interpolate(ab, size=(72, 96), mode="bicubic")
    assert np.abs(result - expected[0].permute(1, 2, 0).numpy()).mean() < 0.5


def test_tensors_go_in_and_out_in_the_same_range(colorizer):
    ab = colorizer(torch.rand(3, 1, 20, 30) * 2 - 1)
    assert ab.shape == (3, 2, 20, 30)
    assert ab.abs().max() <= 1


def test_a_file_and_its_bytes_and_its_picture_give_the_same(colorizer, photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    results = [
        np.asarray(colorizer.colorize(each))
        for each in (
            tmp_path / "photo.png",
            str(tmp_path / "photo.png"),
            (tmp_path / "photo.png").read_bytes(),
            photo,
            np.asarray(photo),
        )
    ]
    assert all(np.array_equal(results[0], result) for result in results[1:])
    with pytest.raises(PhotoError, match="no such file"):
        colorizer.colorize("absent.jpg")


def test_running_out_of_memory_moves_the_work_to_the_cpu_with_a_warning(
    colorizer, photo, monkeypatch
):
    expected = np.asarray(colorizer.colorize(photo))
    forward = colorizer.generator.forward
    failures = [torch.OutOfMemoryError("CUDA out of memory")]

    def scarce(*arguments, **options):
        if failures:
            raise failures.pop()
        return forward(*arguments, **options)

    monkeypatch.setattr(colorizer.generator, "forward", scarce)
    with pytest.warns(UserWarning, match="out of memory: colouring on the CPU"):
        result = colorizer.colorize(photo)
    assert np.array_equal(np.asarray(result), expected)


@pytest.mark.parametrize("architecture", ["ResUNet", "MobileUNet"])
def test_batches_that_do_not_fit_are_halved_and_it_is_said_once(architecture, monkeypatch):
    colorizer = colorizer_of(architecture)
    lightness = torch.rand(7, 1, 32, 32) * 2 - 1
    expected = torch.cat([colorizer(each, seed=1) for each in lightness.split(1)])
    forward = colorizer.generator.forward

    def scarce(lightness, *arguments, **options):
        if len(lightness) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(lightness, *arguments, **options)

    monkeypatch.setattr(colorizer.generator, "forward", scarce)
    with pytest.warns(UserWarning, match="fewer than 7 photos at once") as told:
        result = colorizer(lightness, seed=1)
    assert len(told) == 1
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(colorizer(lightness, seed=1), expected)


def test_the_uncertainty_moves_to_the_cpu_as_well(photo, monkeypatch):
    colorizer = Colorizer(make_generator("MobileUNet"), device="cpu")
    expected, ask = colorizer.uncertainty(photo), colorizer.generator.uncertainty
    failures = [torch.OutOfMemoryError("CUDA out of memory")]

    def scarce(lightness):
        if failures:
            raise failures.pop()
        return ask(lightness)

    monkeypatch.setattr(colorizer.generator, "uncertainty", scarce)
    with pytest.warns(UserWarning, match="out of memory: colouring on the CPU"):
        assert torch.equal(colorizer.uncertainty(photo), expected)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(OptionError, match="choose auto, cpu, cuda or mps"):
        Colorizer(make_generator(), device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="no cuda device"):
            Colorizer(make_generator(), device="cuda")


def test_a_variant_is_saved_and_loaded_whole(variant_folder, photo, tmp_path):
    (variant_folder / "README.md").write_text(
        (variant_folder / "README.md").read_text() + "\nA sentence by hand.\n"
    )
    colorizer = Colorizer.from_pretrained(variant_folder, device="cpu")
    colorizer.save_pretrained(tmp_path / "copy")
    again = Colorizer.from_pretrained(tmp_path / "copy", device="cpu")
    assert np.array_equal(np.asarray(colorizer.colorize(photo)), np.asarray(again.colorize(photo)))
    assert "A sentence by hand." in (tmp_path / "copy" / "README.md").read_text()


def test_a_name_that_is_no_variant_says_which_there_are():
    with pytest.raises(NotFoundError, match=r"no variant 'cwgam': choose"):
        Colorizer.from_pretrained("cwgam")
