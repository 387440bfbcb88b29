"""Inception-ResNet-v2: the names and shapes of timm's checkpoint, and what it computes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from colorhub.errors import OptionError
from colorhub.inception import WEIGHTS, InceptionResNetV2

# The state dictionary of timm 1.0.31's inception_resnet_v2: {name: shape}.
SHAPES = json.loads(Path(__file__).with_name("inception_resnet_v2.json").read_text())
# Every hundredth logit that timm 1.0.31 (torch 2.13.0, CPU) gives `photos(1, 96, 123)` with the
# weights below: padding, scales and activations leave no trace in names and shapes.
LOGITS = [12.4134, 2.2522, -12.6989, 7.8873, 8.7241, 11.4708, 15.7346, 1.1832, 6.1738, 4.2478]


def uniform(random, limit, shape, *, around=0.0):
    values = random.uniform(around - limit, around + limit, shape)
    return torch.from_numpy(values.astype(np.float32))


def photos(count, height, width):
    """RandomState's stream is the same in every version of numpy."""
    return uniform(np.random.RandomState(1), 1, (count, 3, height, width))


def drawn(random, name, shape):
    """One tensor of a checkpoint, such that the signal lasts through all layers."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith(("bn.weight", "running_var")):
        return uniform(random, 0.5, shape, around=1.0)
    return uniform(random, math.sqrt(6 / math.prod(shape[1:])) if shape[1:] else 0.1, shape)


@pytest.fixture(scope="module")
def tensors():
    random = np.random.RandomState(0)
    return {name: drawn(random, name, SHAPES[name]) for name in sorted(SHAPES)}


@pytest.fixture(scope="module")
def network(tensors):
    """With weights that no test changes."""
    network = InceptionResNetV2().eval().requires_grad_(False)
    network.load_backbone(tensors)
    return network


def on_meta():
    with torch.device("meta"):  # no memory for weights that are not looked at
        return InceptionResNetV2()


def test_names_and_shapes_are_those_of_timm_s_checkpoint():
    ours = {name: [*each.shape] for name, each in on_meta().state_dict().items()}
    assert ours == SHAPES
    assert sum(each.numel() for each in on_meta().parameters()) == 55_843_464


@torch.no_grad()
def test_published_weights_compute_what_timm_does_with_them(network):
    logits = network(photos(1, 96, 123))[0, ::100]
    torch.testing.assert_close(logits, torch.tensor(LOGITS), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("sides", [(75, 75), (96, 123)])
def test_a_photo_has_a_thousand_logits_which_its_own_weights_leave_alone(network, sides):
    given = photos(2, *sides)
    before = network(given)
    network.load_backbone({name: each.clone() for name, each in network.state_dict().items()})
    assert before.shape == (2, 1000)
    assert before.isfinite().all()
    assert torch.equal(network(given), before)


def test_half_precision_is_taken_in_full(tensors):
    network = InceptionResNetV2()
    network.load_backbone({name: each.half() for name, each in tensors.items()})
    assert {each.dtype for each in network.parameters()} == {torch.float32}
    name = "classif.weight"
    assert torch.equal(network.state_dict()[name], tensors[name].half().float())


def test_a_checkpoint_may_lack_the_norms_counters(tensors):
    network = InceptionResNetV2()
    kept = {name: each for name, each in tensors.items() if "num_batches" not in name}
    network.load_backbone(kept)
    assert all(torch.equal(network.state_dict()[name], each) for name, each in kept.items())


def test_weights_that_do_not_fit_are_refused_by_name():
    network = on_meta()
    whole = network.state_dict()
    name = "repeat_1.7.branch1.2.conv.weight"
    without = {key: each for key, each in whole.items() if key != name}
    wrong = {name: torch.zeros(7, 160, 7, 1)}
    for given, message in (
        (without, f"{name} is missing"),
        (whole | wrong, rf"{name} has the shape \(7, 160, 7, 1\), not \(192, 160, 7, 1\)"),
        (whole | {"last_linear.bias": torch.zeros(9)}, "last_linear.bias has no place here"),
        ({}, r"conv2d_1a.conv.weight is missing; .* and 1099 more"),
    ):
        with pytest.raises(OptionError, match=f"{message}.*Give {WEIGHTS}"):
            network.load_backbone(given)


def test_weights_that_are_refused_change_nothing(tensors, network):
    before = network.classif.bias.clone()
    wrong = {"classif.bias": before + 1, "conv2d_1a.bn.bias": torch.zeros(9)}
    with pytest.raises(OptionError, match=r"conv2d_1a.bn.bias has the shape \(9,\)"):
        network.load_backbone(tensors | wrong)
    assert torch.equal(network.classif.bias, before)


@pytest.mark.slow
@torch.no_grad()
def test_at_299_pixels_the_logits_are_timm_s(network, tensors):
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # a torchvision that does not fit its torch
        pytest.skip(f"timm cannot be imported: {error}")
    theirs = timm.create_model("inception_resnet_v2", pretrained=False).eval()
    theirs.load_state_dict(tensors)
    given = photos(2, 299, 299)
    expected = theirs(given)
    assert (expected[0] - expected[1]).std() > 0.1
    torch.testing.assert_close(network(given), expected, rtol=1e-4, atol=1e-3)
