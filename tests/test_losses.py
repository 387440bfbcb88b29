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


def spread_of(n=2, k=3, height=2, width=3):
    torch.manual_seed(0)
    return (
        torch.randn(n, 2, height, width),
        torch.randn(n, k, 2, height, width, requires_grad=True),
        torch.randn(n, 2, height, width, requires_grad=True),
    )


def test_the_low_rank_gaussian_is_the_dense_one():
    error, shifts, log_variance = spread_of()
    expected = []
    for one, across, own in zip(error, shifts.detach(), log_variance.detach(), strict=True):
        covariance = torch.diag(own.flatten().exp())
        for shift in across:
            covariance += torch.outer(shift.flatten(), shift.flatten())
        dense = torch.distributions.MultivariateNormal(torch.zeros(12), covariance)
        expected.append(-dense.log_prob(one.flatten()) / 12)
    loss = losses.low_rank_gaussian(error, shifts, log_variance)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_without_shifts_it_is_a_normal_distribution_s():
    error, _, log_variance = spread_of(k=0)
    loss = losses.low_rank_gaussian(error, torch.zeros(2, 1, 2, 2, 3), log_variance)
    normal = torch.distributions.Normal(0.0, (log_variance / 2).exp())
    torch.testing.assert_close(loss, -normal.log_prob(error).mean())


def test_the_spread_learns_the_errors_that_it_sees():
    """Errors of a known direction: the likeliest shift is along it."""
    torch.manual_seed(0)
    direction = torch.randn(1, 1, 2, 2, 3)
    strength = torch.randn(64, 1, 1, 1)
    error = strength * direction[:, 0] + 0.1 * torch.randn(64, 2, 2, 3)
    shift = torch.randn(1, 1, 2, 2, 3, requires_grad=True)
    log_variance = torch.zeros(1, 2, 2, 3, requires_grad=True)
    optimizer = torch.optim.Adam([shift, log_variance], lr=0.1)
    for _ in range(150):
        loss = losses.low_rank_gaussian(
            error, shift.expand(64, -1, -1, -1, -1), log_variance.expand(64, -1, -1, -1)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = torch.cosine_similarity(shift.flatten(), direction.flatten(), dim=0)
    assert found.abs() > 0.99
    assert (log_variance / 2).exp().mean().item() == pytest.approx(0.1, rel=0.2)


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


@pytest.mark.parametrize("name", ["smooth_l1", "low_rank_gaussian", "classification"])
def test_gradients_reach_all_that_is_predicted(name):
    error, shifts, log_variance = spread_of()
    error.requires_grad_()
    logits = torch.randn(2, len(palette.colours()), 2, 3, requires_grad=True)
    truth = torch.randn(2, 2, 2, 3) * 20
    loss, predicted = {
        "smooth_l1": (losses.smooth_l1(error, truth, saturation_weight=1.0), [error]),
        "low_rank_gaussian": (
            losses.low_rank_gaussian(error, shifts, log_variance),
            [error, shifts, log_variance],
        ),
        "classification": (losses.classification(logits, truth, losses.Rarity()), [logits]),
    }[name]
    loss.backward()
    for each in predicted:
        assert each.grad is not None and each.grad.isfinite().all() and each.grad.all()


def test_half_precision_comes_out_in_full():
    error, shifts, log_variance = (each.detach().bfloat16() for each in spread_of())
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses.low_rank_gaussian(error, shifts, log_variance)
        assert loss.dtype == losses.smooth_l1(error, error.float()).dtype == torch.float32
