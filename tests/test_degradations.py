"""What time and film do to a photo, each by what it is known to do."""

import random

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image
from skimage.color import rgb2lab

from colorhub.data import crop
from colorhub.degradations import (
    AGEING,
    NAMES,
    AgedCrop,
    age,
    blur,
    degrade,
    fading,
    film,
    grain,
    orthochromatic,
    panchromatic,
    scratches,
    sepia,
    vignette,
)

DRAWS = range(20)
RAMP = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))

each_name = pytest.mark.parametrize("name", NAMES)


def flat(*rgb):
    return np.full((8, 8, 3), rgb, np.float32)


def textured(width=180, height=150):
    """Fine enough that a blur shows."""
    rgb = np.array(make_photo(width, height))
    rgb[::2] //= 2
    return Image.fromarray(rgb)


def levels(picture):
    return np.asarray(picture, np.float32)


@each_name
@pytest.mark.parametrize("size", [(61, 40), (33, 90), (5, 3), (1, 1)])
def test_a_degraded_photo_is_grey_and_of_the_same_size(name, size):
    aged = degrade(make_photo(*size), name, random.Random(1))
    assert (aged.mode, aged.size) == ("L", size)


@each_name
def test_the_same_draw_gives_the_same_picture_and_others_another(name):
    first, again, *others = (
        np.asarray(degrade(textured(), name, random.Random(seed))) for seed in (1, 1, 2, 3)
    )
    assert np.array_equal(first, again)
    assert any(not np.array_equal(first, other) for other in others)


@each_name
def test_every_degradation_changes_a_photo(name):
    photo = textured()
    plain = film(np.asarray(photo, np.float32) / 255) * 255
    for seed in DRAWS:
        assert np.abs(levels(degrade(photo, name, random.Random(seed))) - plain).max() > 3


@each_name
def test_the_caller_s_picture_stays_as_it_was(name):
    grey, rgb = RAMP.copy(), np.asarray(make_photo(30, 20), np.float32) / 255
    before = rgb.copy()
    if name in AGEING:
        AGEING[name](grey, random.Random(0))
        assert np.array_equal(grey, RAMP)
    else:
        globals()[name](rgb, random.Random(0))
        assert np.array_equal(rgb, before)


def test_any_film_leaves_a_grey_ramp_as_it_is():
    for shares in ((), ((0.0, 0.5, 0.5),), ((0.2, 0.3, 0.5),)):
        grey = film(np.repeat(RAMP[..., None], 3, axis=2), *shares)
        np.testing.assert_allclose(grey, RAMP, atol=2e-4)


def _srgb(light):
    return 1.055 * light ** (1 / 2.4) - 0.055


def test_film_adds_light_in_its_shares():
    # Half the light is 1.055 * 0.5 ** (1 / 2.4) - 0.055 = 0.7354 of a level of sRGB grey.
    assert film(flat(0, 1, 0), (0.2, 0.5, 0.3)).flat[0] == pytest.approx(0.7354, abs=1e-4)
    # Level 0.5 is light ((0.5 + 0.055) / 1.055) ** 2.4 = 0.2140: 0.2 * 0.2140 + 0.3 = 0.3428.
    both = film(flat(0.5, 0, 1), (0.2, 0.5, 0.3)).flat[0]
    assert both == pytest.approx(_srgb(0.3428), abs=1e-4)


def test_orthochromatic_film_makes_red_dark_and_blue_light():
    for seed in DRAWS:
        draws = [random.Random(seed) for _ in range(4)]
        red, green, blue, grey = (
            orthochromatic(flat(*rgb), draw).flat[0]
            for rgb, draw in zip(
                [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0.5)], draws, strict=True
            )
        )
        assert red <= 0.06 ** (1 / 2.2) < film(flat(1, 0, 0)).flat[0]
        assert blue >= 0.35 ** (1 / 2.2) > film(flat(0, 0, 1)).flat[0]
        assert green > red and grey == pytest.approx(0.5, abs=1e-4)


class Drawn(random.Random):
    """Draws what it is told to."""

    def __init__(self, *values):
        self.values = list(values)

    def gammavariate(self, alpha, beta):
        return self.values.pop(0)

    def uniform(self, low, high):
        value = self.values.pop(0)
        assert low <= value <= high
        return value


def test_panchromatic_film_sees_what_was_drawn_over_its_sum():
    for rgb, share in (((1, 0, 0), 0.5), ((0, 1, 0), 0.125), ((0, 0, 1), 0.375)):
        grey = panchromatic(flat(*rgb), Drawn(4.0, 1.0, 3.0)).flat[0]
        assert grey == pytest.approx(_srgb(share), abs=1e-4)


def test_fading_lifts_blacks_and_dulls_whites():
    faded = fading(RAMP, Drawn(0.2, 0.8, 0.0))  # black, white, and a gamma of 1
    np.testing.assert_allclose(faded, 0.2 + 0.6 * RAMP, atol=1e-6)
    for seed in DRAWS:
        faded = fading(RAMP, random.Random(seed))
        assert faded.min() >= 0 and faded.max() <= 1
        assert np.ptp(faded) < np.ptp(RAMP)
        assert (np.diff(faded[0]) > 0).all()  # light stays lighter than dark


def test_a_toned_print_is_darker_in_its_lights_and_keeps_their_order():
    for seed in DRAWS:
        toned = sepia(RAMP, random.Random(seed))[0]
        assert toned[0] == 0 and 0.7 < toned[-1] < 1
        assert (np.diff(toned) > 0).all()


def test_blur_lowers_the_energy_of_gradients_and_keeps_the_mean():
    sharp = np.asarray(make_photo(300, 250).convert("L"), np.float32) / 255
    sharp[::2] *= 0.9
    for seed in DRAWS:
        soft = blur(sharp, random.Random(seed))
        energies = [np.square(np.diff(each, axis=0)).sum() for each in (sharp, soft)]
        assert energies[1] < 0.7 * energies[0]
        assert soft.mean() == pytest.approx(sharp.mean(), abs=0.01)


def test_grain_raises_the_variance_most_in_the_midtones():
    for seed in DRAWS:
        rough = [grain(np.full((64, 64), at, np.float32), random.Random(seed)) for at in (0, 0.5)]
        dark, middle = (each.std() for each in rough)
        # The strength is 0.01 to 0.07, times 0.4 + 2.4 * 0.25 = 1 in the middle.
        assert 0.009 < middle < 0.075
        assert dark == pytest.approx(0.4 * middle, rel=1e-3)
        assert rough[1].mean() == pytest.approx(0.5, abs=0.01)


def test_scratches_touch_little_of_the_photo():
    grey = np.full((200, 150), 0.5, np.float32)
    for seed in DRAWS:
        touched = scratches(grey, random.Random(seed)) != grey
        assert 0 < touched.mean() < 0.1


def test_a_vignette_leaves_the_middle_and_changes_the_corners():
    grey = np.full((61, 81), 0.5, np.float32)
    for seed in DRAWS:
        change = np.abs(vignette(grey, random.Random(seed)) - grey)
        corners = change[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert change[30, 40] < 0.5 * corners.max() and corners.max() > 0.03


def test_a_small_scan_and_a_jpeg_lose_detail_but_not_the_picture():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 1)).repeat(3, axis=2)
    fine, smooth = Image.fromarray(noise.astype(np.uint8)), make_photo(64, 64)
    for name in ("low_resolution", "jpeg"):
        for seed in DRAWS:
            lost = levels(degrade(fine, name, random.Random(seed))) - noise[..., 0]
            kept = levels(degrade(smooth, name, random.Random(seed)))
            kept -= film(np.asarray(smooth, np.float32) / 255) * 255
            assert np.abs(lost).mean() > 5 > 2 * np.abs(kept).mean()


def test_ageing_is_a_film_and_a_third_of_the_rest(monkeypatch):
    times = dict.fromkeys(AGEING, 0)

    def counted(name):
        def ageing(grey, draw):
            assert grey.min() >= 0 and grey.max() <= 1 + 1e-3
            times[name] += 1
            return grey + (0.5 if name == "scratches" else 0)  # beyond white: is clipped

        return ageing

    for name in AGEING:
        monkeypatch.setitem(AGEING, name, counted(name))
    for seed in range(400):
        aged = age(make_photo(8, 6), random.Random(seed))
    assert (aged.mode, aged.size) == ("L", (8, 6))
    for count in times.values():
        assert 400 * 0.3 - 45 < count < 400 * 0.3 + 45  # five standard deviations


def test_a_training_crop_is_the_plain_one_with_what_the_network_sees():
    photo = make_photo(90, 70)
    for seed, share in ((0, 0.0), (1, 1.0), (2, 0.5)):
        view = AgedCrop(share, 1.6)
        seen = view(photo, 32, random.Random(seed))
        assert (seen.shape, seen.dtype, view.channels) == ((32, 32, 4), np.uint8, 4)
        plain = crop(photo, 32, random.Random(seed), zoom=1.6)
        assert np.array_equal(seen[..., :3], np.asarray(plain))


def test_without_ageing_the_network_sees_the_luminance():
    for seed in range(5):
        seen = AgedCrop(0.0, 1.6)(make_photo(90, 70, seed=seed), 64, random.Random(seed))
        grey = seen[..., 3:].repeat(3, axis=2)
        difference = rgb2lab(seen[..., :3])[..., 0] - rgb2lab(grey)[..., 0]
        # A level of grey is 0.4 of L. The film's curve is a power where sRGB's has a linear toe:
        # over all of sRGB they are at most 3.4 apart, in dark and saturated blues.
        assert np.abs(difference).mean() < 0.4 and np.abs(difference).max() < 3.8


def test_the_stated_share_of_photos_is_aged():
    photo = make_photo(20, 20)

    def aged(share, seed):
        plain, seen = (AgedCrop(each, 1.2)(photo, 16, random.Random(seed)) for each in (0, share))
        return not np.array_equal(plain, seen)

    # A third has no other film, and 0.7 ** 8 of those no ageing: 2 % look as they were.
    assert sum(aged(1.0, seed) for seed in range(100)) > 90
    count = sum(aged(0.25, seed) for seed in range(300))
    assert 300 * 0.25 * 0.6 < count < 300 * 0.25 * 1.4
