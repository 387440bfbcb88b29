"""Layers and losses that must not notice how many processes share the batch."""

import pytest
import torch
from conftest import make_generator, on_two_ranks

from colorhub.layers import BatchNorm2d, Dropout2d
from colorhub.ranks import draw_normal, draw_uniform, gather_rows, step_seed


def _joined(parts):
    """Rank r holds rows r, r + 2, ... of the joined batch."""
    return torch.stack(parts, dim=1).flatten(0, 1)


def _draw(rank):
    return draw_uniform(3, 2, like=torch.empty(0)), draw_normal(3, 2, like=torch.empty(0))


def test_ranks_draw_the_rows_of_one_joined_batch(tmp_path):
    parts = on_two_ranks(_draw, tmp_path)
    torch.manual_seed(0)
    joined = draw_uniform(6, 2, like=torch.empty(0)), draw_normal(6, 2, like=torch.empty(0))
    for i in range(2):
        assert torch.equal(_joined([part[i] for part in parts]), joined[i])


def _compare_rows(rank, x, weight):
    """A loss that couples every photo of the joined batch with every other."""
    weight = weight.clone().requires_grad_()
    rows = gather_rows((x if rank is None else x[rank::2]) @ weight)
    positions = torch.arange(1.0, len(rows) + 1)
    ((rows @ rows.T).square().mean() + positions @ rows.sum(dim=1)).backward()
    return rows.detach(), weight.grad


def test_gathered_rows_are_the_joined_batch_with_its_gradients(tmp_path):
    torch.manual_seed(3)
    x, weight = torch.randn(6, 4), torch.randn(4, 3)
    parts = on_two_ranks(_compare_rows, tmp_path, x, weight)
    rows, gradient = _compare_rows(None, x, weight)
    for part in parts:
        torch.testing.assert_close(part[0], rows)
    torch.testing.assert_close((parts[0][1] + parts[1][1]) / 2, gradient)


def _gather_numbered(rank):
    """Rank 0 holds photos 0 and 2, rank 1 photos 1 and 3; each weighs the rows as it likes."""
    own = torch.tensor([[0.0, 0.5], [2.0, 2.5]]) + rank
    rows = gather_rows(own.requires_grad_())
    (rows.sum() * 10**rank).backward()
    return rows.detach(), own.grad


def test_gathered_rows_are_in_joined_order_and_collect_all_ranks_gradients(tmp_path):
    for rows, gradient in on_two_ranks(_gather_numbered, tmp_path):
        assert rows.tolist() == [[0.0, 0.5], [1.0, 1.5], [2.0, 2.5], [3.0, 3.5]]
        assert torch.equal(gradient, torch.full((2, 2), 11.0))  # 1 from rank 0, 10 from rank 1


def test_the_gathered_rows_of_one_process_are_its_own():
    x = torch.randn(3, 2)
    assert gather_rows(x) is x


def _normalise(rank, x):
    layer = BatchNorm2d(3)
    own = x[rank::2].clone().requires_grad_()
    y = layer(own)
    (y**3).mean().backward()
    return y.detach(), own.grad, layer.weight.grad, layer.running_mean, layer.running_var


def test_batch_norm_over_two_ranks_is_that_of_the_joined_batch(tmp_path):
    x = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(1)) * 2 + 1
    parts = on_two_ranks(_normalise, tmp_path, x)
    layer, whole = torch.nn.BatchNorm2d(3), x.clone().requires_grad_()
    y = layer(whole)
    (y**3).mean().backward()
    torch.testing.assert_close(_joined([part[0] for part in parts]), y.detach())
    # Each rank's loss is a mean over half of the batch; averaged over ranks it is the whole's.
    torch.testing.assert_close(_joined([part[1] for part in parts]) / 2, whole.grad)
    torch.testing.assert_close((parts[0][2] + parts[1][2]) / 2, layer.weight.grad)
    for part in parts:
        torch.testing.assert_close(part[3], layer.running_mean)
        torch.testing.assert_close(part[4], layer.running_var)


def test_batch_norm_of_one_process_is_torch_s_own():
    x = torch.randn(4, 3, 5, 5)
    ours, theirs = BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)


def _first_gradients(rank, x):
    """Dropout, noise and batch norm on: the hardest case."""
    generator = make_generator().train()
    torch.manual_seed(7)
    own = x if rank is None else x[rank::2]
    generator(own).square().mean().backward()
    return {name: parameter.grad for name, parameter in generator.named_parameters()}


def test_a_generator_has_the_gradients_of_the_joined_batch_with_dropout_and_noise(tmp_path):
    x = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    one, two = on_two_ranks(_first_gradients, tmp_path, x)
    whole = _first_gradients(None, x)
    for name, gradient in whole.items():
        mean = (one[name] + two[name]) / 2
        torch.testing.assert_close(mean, gradient, atol=1e-6, rtol=1e-3, msg=name)


def test_dropout_drops_whole_channels_and_keeps_the_mean():
    torch.manual_seed(0)
    dropped = Dropout2d(0.2).train()(torch.ones(200, 50, 2, 2))
    channels = dropped.flatten(2)
    assert ((channels == 0).all(dim=2) | (channels == 1.25).all(dim=2)).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(Dropout2d(0.2).eval()(dropped), dropped)


def test_neighbouring_steps_and_seeds_draw_apart():
    seeds = {step_seed(seed, step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900
