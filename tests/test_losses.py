"""The losses of `natural`, by hand and against what others compute."""

import numpy as np
import pytest
import torch
from conftest import make_photo

from colorhub import losses, palette
from colorhub.metrics import colorfulness


def pixel(a, b):
    return torch.tensor([float(a), float(b)]).view(1, 2, 1, 1)


def test_errors_count_as_they_are_and_small_ones_by_their_square():
    # Over beta 2: |e| - 1 = 4; under: e^2 / 4 = 0.25. The mean of both channels.
    assert losses.smooth_l1(pixel(5, -1), pixel(0, 0)).item() == pytest.approx((4 + 0.25) / 2)
    assert losses.smooth_l1(pixel(5, 0), pixel(0, 0), beta=10).item() == pytest.approx(1.25 / 2)


def test_a_saturated_pixel_weighs_more_by_its_true_chroma():
    truth = torch.cat((pixel(0, 0), pixel(12, 16)), dim=3)  # chroma 0 and 20
    off = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)  # costs 2 in one of two channels
    plain = losses.smooth_l1(truth + off, truth)
    weighed = losses.smooth_l1(truth + off, truth, saturation_weight=1.5)
    assert plain.item() == pytest.approx(1.0)
    assert weighed.item() == pytest.approx((1 + (1 + 1.5)) / 2)


def tensor_of(photo):
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None] / 255


def test_the_colourfulness_that_lacks_is_the_metric_s():
    vivid, other = make_photo(90, 70, seed=1), make_photo(90, 70, seed=2)
    pale = (np.asarray(vivid) * 0.3 + 90).astype(np.uint8)
    expected = (colorfulness(np.asarray(vivid)) - colorfulness(pale)) / 100
    assert expected > 0.1
    gap = losses.colorfulness_gap(tensor_of(pale), tensor_of(vivid))
    assert gap.item() == pytest.approx(expected, rel=1e-3)
    assert losses.colorfulness_gap(tensor_of(vivid), tensor_of(pale)) == 0  # enough is enough
    both = torch.cat((tensor_of(pale), tensor_of(other)))
    gap = losses.colorfulness_gap(both, torch.cat((tensor_of(vivid), tensor_of(other))))
    assert gap.item() == pytest.approx(expected / 2, rel=1e-3)


def test_the_colourfulness_of_grey_has_a_gradient():
    grey = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    losses.colorfulness_gap(grey, tensor_of(make_photo(4, 4))).backward()
    assert grey.grad is not None and grey.grad.isfinite().all()


def guesses(n=2, k=3, height=2, width=3):
    torch.manual_seed(0)
    return (
        torch.randn(n, 2, height, width),
        torch.randn(n, k, 2, height, width, requires_grad=True),
        torch.randn(n, 1, height, width, requires_grad=True),
    )


# Two photos of one pixel and two shifts, whose distances are known (beta 2, mean of a and b):
# of the first photo (0 + 3) / 2 and (9 + 0) / 2, of the second (9 + 9) / 2 and (0 + 5) / 2.
ERROR = torch.cat((pixel(10, 0), pixel(0, -6)))
SHIFTS = torch.stack((pixel(10, 4), pixel(0, 0)), dim=1).repeat(2, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("relaxed", "first", "second"),
    [
        (0.0, 1.5, 2.5),
        (0.2, 0.8 * 1.5 + 0.2 * (1.5 + 4.5) / 2, 0.8 * 2.5 + 0.2 * (9 + 2.5) / 2),
        (1.0, (1.5 + 4.5) / 2, (9 + 2.5) / 2),
    ],
)
def test_of_each_photo_the_nearest_shift_counts_and_the_others_by_a_share(relaxed, first, second):
    loss = losses.nearest(ERROR, SHIFTS, relaxed=relaxed)
    assert loss.item() == pytest.approx((first + second) / 2)


def test_the_nearest_shift_is_that_of_the_whole_photo_not_of_each_pixel():
    error = torch.cat((pixel(10, 0), pixel(-10, 0)), dim=3)
    one = torch.cat((pixel(10, 0), pixel(10, 0)), dim=3)  # right on the left: 19 in 4 values
    two = torch.cat((pixel(0, 0), pixel(-10, 0)), dim=3)  # right on the right: 9 in 4 values
    loss = losses.nearest(error, torch.stack((one, two), dim=1), relaxed=0.0)
    assert loss.item() == pytest.approx(9 / 4)


@pytest.mark.parametrize("relaxed", [0.0, 0.1])
def test_the_others_learn_only_with_a_share(relaxed):
    shifts = SHIFTS.clone().requires_grad_()
    losses.nearest(ERROR, shifts, relaxed=relaxed).backward()
    moved = shifts.grad.flatten(2).any(2)
    assert moved.tolist() == [[True, relaxed > 0], [relaxed > 0, True]]


def test_two_kinds_of_photos_are_found_by_two_shifts_and_none_is_left_behind():
    torch.manual_seed(0)
    kinds = torch.cat((pixel(20, 0), pixel(-20, 10))).repeat(32, 1, 1, 1)
    error = kinds + torch.randn(64, 2, 1, 1)

    def learned(**options):
        shifts = torch.stack((pixel(0, 0), pixel(60, 60)), dim=1).requires_grad_()  # one far off
        optimizer = torch.optim.Adam([shifts], lr=0.5)
        for _ in range(300):
            loss = losses.nearest(error, shifts.expand(64, -1, -1, -1, -1), **options)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return shifts.detach()[0, :, :, 0, 0]

    torch.testing.assert_close(
        learned(), torch.tensor([[-20.0, 10.0], [20.0, 0.0]]), rtol=0, atol=1
    )
    assert learned(relaxed=0.0)[1].tolist() == [60, 60]


def test_the_laplace_of_one_pixel_is_known():
    scale = torch.tensor(2.0).view(1, 1, 1, 1)
    loss = losses.laplace(pixel(3, 4), scale.log())  # 5 away
    assert loss.item() == pytest.approx(5 / 2 + 2 * np.log(2))
    both = losses.laplace(torch.cat((pixel(3, 4), pixel(0, 0)), dim=3), scale.log())
    assert both.item() == pytest.approx(5 / 2 / 2 + 2 * np.log(2))


def test_the_likeliest_scale_is_half_the_mean_distance():
    torch.manual_seed(0)
    error = torch.randn(4, 2, 5, 6) * 9
    best = (error.norm(dim=1).mean() / 2).log().requires_grad_()
    least = losses.laplace(error, best.expand(4, 1, 5, 6))
    least.backward()
    assert best.grad.item() == pytest.approx(0, abs=1e-5)
    for other in (best - 0.1, best + 0.1):
        assert losses.laplace(error, other.expand(4, 1, 5, 6)) > least


def common_and_rare():
    """Nine pixels of one colour and one of another, as shares (1, Q, 2, 5)."""
    classes = torch.tensor([0] * 9 + [1]).view(1, 2, 5)
    one_hot = torch.nn.functional.one_hot(classes, len(palette.colours()))
    return one_hot.permute(0, 3, 1, 2).float()


def test_rare_colours_weigh_more_and_the_mean_weight_is_one():
    encoded, rarity = common_and_rare(), losses.Rarity(momentum=1.0)
    weights = rarity(encoded)
    assert weights.mean().item() == pytest.approx(1)
    # 1 / (0.5 * share + 0.5 / Q), of which the factor cancels.
    count = len(palette.colours())
    ratio = (0.9 + 1 / count) / (0.1 + 1 / count)
    assert (weights[0, 1, 4] / weights[0, 0, 0]).item() == pytest.approx(ratio, rel=1e-4)
    assert weights[0, 1, 4] > 1 > weights[0, 0, 0]


def test_how_rare_a_colour_is_is_learned_over_the_batches():
    encoded, rarity, count = common_and_rare(), losses.Rarity(momentum=0.25), len(palette.colours())
    assert rarity.share.tolist() == pytest.approx([1 / count] * count)
    rarity(encoded)
    assert rarity.share[0].item() == pytest.approx(0.75 / count + 0.25 * 0.9)
    for _ in range(40):
        rarity(encoded)
    assert rarity.share[:3].tolist() == pytest.approx([0.9, 0.1, 0], abs=1e-3)
    assert rarity.share.sum().item() == pytest.approx(1, rel=1e-5)


def test_the_cross_entropy_of_one_pixel_is_known():
    logits = torch.zeros(1, len(palette.colours()), 1, 1, requires_grad=True)
    truth = torch.tensor([[10.0, 20.0], [30.0, 40.0]]).view(1, 1, 2, 2).repeat(1, 2, 1, 1)
    truth[:, 1] -= 25  # their mean is (25, 0)
    loss = losses.classification(logits, truth, None)
    assert loss.item() == pytest.approx(np.log(len(palette.colours())), rel=1e-5)
    loss.backward()
    # The gradient of a cross entropy: what is predicted less what is true.
    wanted = 1 / len(palette.colours()) - palette.encode(torch.tensor([25.0, 0]).view(1, 2, 1, 1))
    torch.testing.assert_close(logits.grad, wanted)


def test_the_weight_of_a_rare_colour_multiplies_its_entropy():
    rarity, ab = losses.Rarity(momentum=0.0), torch.cat((pixel(0, 0), pixel(60, 40)), dim=3)
    nearest = palette.encode(ab).argmax(1)[0, 0]
    rarity.share.fill_(0)
    rarity.share[nearest] = torch.tensor([0.75, 0.25])
    logits = torch.randn(1, len(palette.colours()), 1, 2, generator=torch.manual_seed(0))
    common, rare = (
        losses.classification(logits[..., i : i + 1], ab[..., i : i + 1], None) for i in (0, 1)
    )
    weights = 1 / (np.array([0.75, 0.25]) + 1 / len(palette.colours()))
    weights /= weights @ [0.75, 0.25]
    loss = losses.classification(logits, ab, rarity)
    expected = (weights[0] * common + weights[1] * rare) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["smooth_l1", "nearest", "laplace", "classification"])
def test_gradients_reach_all_that_is_predicted(name):
    error, shifts, log_scale = guesses()
    error.requires_grad_()
    logits = torch.randn(2, len(palette.colours()), 2, 3, requires_grad=True)
    truth = torch.randn(2, 2, 2, 3) * 20
    loss, predicted = {
        "smooth_l1": (losses.smooth_l1(error, truth, saturation_weight=1.0), [error]),
        "nearest": (losses.nearest(error, shifts), [error, shifts]),
        "laplace": (losses.laplace(error, log_scale), [error, log_scale]),
        "classification": (losses.classification(logits, truth, losses.Rarity()), [logits]),
    }[name]
    loss.backward()
    for each in predicted:
        assert each.grad is not None and each.grad.isfinite().all() and each.grad.all()


def test_half_precision_comes_out_in_full():
    error, shifts, log_scale = (each.detach().bfloat16() for each in guesses())
    with torch.autocast("cpu", torch.bfloat16):
        for loss in (
            losses.smooth_l1(error, error.float()),
            losses.nearest(error, shifts),
            losses.laplace(error, log_scale),
        ):
            assert loss.dtype == torch.float32


def test_what_a_student_lacks_is_relative_to_what_its_teacher_finds():
    torch.manual_seed(0)
    wanted = [torch.randn(2, 3, 8, 8), 50 * torch.randn(2, 5, 4, 4)]
    assert losses.relative_square(wanted, wanted) == 0
    zeros = [torch.zeros_like(each) for each in wanted]
    assert losses.relative_square(zeros, wanted).item() == pytest.approx(1)
    half = [wanted[0], wanted[1] / 2]  # the scale of a map does not matter
    assert losses.relative_square(half, wanted).item() == pytest.approx((0 + 1 / 4) / 2)


def test_the_feature_loss_is_of_the_middle_maps():
    wanted = [torch.zeros(1, 2, 4, 4) for _ in range(5)]
    seen = [each + 10**number for number, each in enumerate(wanted)]
    assert losses.features(seen, wanted).item() == pytest.approx((10 + 100 + 1000) / 3)
