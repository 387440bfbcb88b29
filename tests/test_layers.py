"""Batch norm over ranks, in the layouts and dtypes that training uses."""

from functools import partial

import pytest
import torch
from conftest import on_two_ranks
from test_ranks import _joined
from torch import nn

from colorhub.layers import BatchNorm2d


def _normalise(rank, x):
    """Output and gradients of one rank's rows, or of the whole batch by torch's own layer."""
    layer = nn.BatchNorm2d(x.shape[1]) if rank is None else BatchNorm2d(x.shape[1])
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2, x.shape[1]))
        layer.bias.copy_(torch.linspace(-1, 1, x.shape[1]))
    own = (x if rank is None else x[rank::2]).clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        y = layer(own)
    y.backward(own.detach().cos())
    return y.detach(), own.grad, layer.weight.grad, layer.bias.grad, layer.state_dict()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_batch_norm_over_two_ranks_keeps_dtype_and_layout(dtype, tolerance, layout, tmp_path):
    x = torch.randn(8, 6, 9, 7, generator=torch.Generator().manual_seed(1)) + 5
    x[::2] -= 3  # the ranks' means differ, which adds to the joined variance
    x = x.to(dtype, memory_format=layout)
    one, two = on_two_ranks(_normalise, tmp_path, x)
    y, gradient, *parameters, state = _normalise(None, x)
    close = partial(torch.testing.assert_close, atol=tolerance, rtol=tolerance)
    close(_joined([one[0], two[0]]), y)
    close(_joined([one[1], two[1]]), gradient)
    for i, parameter in enumerate(parameters, start=2):
        close(one[i] + two[i], parameter)
    for part in (one, two):
        assert all(tensor.is_contiguous(memory_format=layout) for tensor in part[:2])
        torch.testing.assert_close(part[4], state)
