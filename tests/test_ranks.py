"""Layers and losses that must not notice how many processes share the batch."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist
from conftest import make_generator

from colorhub.layers import BatchNorm2d, Dropout2d
from colorhub.ranks import draw_normal, draw_uniform


def on_two_ranks(function, tmp_path, *arguments):
    """Run function(rank, ...) in two processes of one gloo group; their results in rank order."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        jobs = [(function, rank, str(tmp_path / "meeting"), *arguments) for rank in range(2)]
        return pool.starmap(_member, jobs)


def _member(function, rank, meeting, *arguments):
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        torch.manual_seed(0)
        return function(rank, *arguments)
    finally:
        dist.destroy_process_group()


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
