"""Pretrained encoders: their layout, and others' weights in it."""

import pytest
import torch
import torch.nn.functional as F

from colorhub.encoders import NAMES, Encoder
from colorhub.errors import OptionError

CHANNELS = {
    "mobilenet_v2_100": [16, 24, 32, 96, 320],
    "mobilenet_edgetpu_075": [16, 24, 40, 72, 144],
}
# (expansion, channels, blocks, stride) of the bottlenecks: Sandler et al. 2018, table 2.
V2 = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]
# The same of MobileNet-EdgeTPU at 0.75; its first block of a group expands more than the others,
# and the first two groups have a full convolution for the expansion and the depthwise one.
# (expanded first, expanded then, channels, blocks, stride, kernel, depthwise)
EDGETPU = [
    (128, 96, 24, 4, 2, 3, False),
    (192, 160, 40, 4, 2, 3, False),
    (320, 288, 72, 4, 2, 3, True),
    (576, 288, 72, 4, 1, 3, True),
    (576, 480, 120, 4, 2, 5, True),
    (960, 960, 144, 1, 1, 3, True),
]

each_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def conv(given, made, kernel, stride=1, *, groups=1, act=True):
    """One layer: its weight's shape, and how it is applied."""
    return (made, given // groups, kernel, kernel), stride, groups, act


def layers_v2():
    """Layers that belong together, and whether their input is added."""
    yield [conv(3, 32, 3, 2)], False
    channels = 32
    for expansion, made, blocks, stride in V2:
        for n in range(blocks):
            wide = expansion * channels
            block = [conv(channels, wide, 1)] if expansion > 1 else []
            block.append(conv(wide, wide, 3, stride if n == 0 else 1, groups=wide))
            yield [*block, conv(wide, made, 1, act=False)], n > 0
            channels = made


def layers_edgetpu():
    yield [conv(3, 24, 3, 2), conv(24, 16, 1, act=False)], False
    channels = 16
    for first, then, made, blocks, stride, kernel, depthwise in EDGETPU:
        for n in range(blocks):
            wide, by = (first, stride) if n == 0 else (then, 1)
            if depthwise:
                block = [conv(channels, wide, 1), conv(wide, wide, kernel, by, groups=wide)]
            else:
                block = [conv(channels, wide, kernel, by)]
            yield [*block, conv(wide, made, 1, act=False)], n > 0
            channels = made


LAYERS = {"mobilenet_v2_100": layers_v2, "mobilenet_edgetpu_075": layers_edgetpu}
CAP = {"mobilenet_v2_100": 6.0, "mobilenet_edgetpu_075": float("inf")}


def folded(name):
    """Random weights by the names that folded layers have, of a size that keeps the signal's."""
    shapes = [shape for block, _ in LAYERS[name]() for shape, *_ in block]
    tensors = {}
    for n, shape in enumerate(shapes):
        fan_in = shape[1] * shape[2] * shape[3]
        tensors[f"layer{n:02}.weight"] = torch.randn(shape) * (2 / fan_in) ** 0.5
        tensors[f"layer{n:02}.bias"] = torch.randn(shape[0]) * 0.5
    return tensors


def forward(name, x, layer):
    """The network written down again: its last map of each size, the largest first.

    `layer(n, x, stride, padding, groups)` is the n-th without its activation.
    """
    maps, n = {}, 0
    for block, residual in LAYERS[name]():
        y = x
        for (_, _, kernel, _), stride, groups, act in block:
            y = layer(n, y, stride, kernel // 2, groups)
            y = y.clamp(0, CAP[name]) if act else y
            n += 1
        x = x + y if residual else y
        maps[x.shape[2]] = x
    return [*maps.values()]


def assert_close(ours, theirs):
    """Sums in fp32 depend on their order."""
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


@each_name
@pytest.mark.parametrize("inputs", [1, 3])
def test_five_maps_halve_the_sides_five_times(name, inputs):
    encoder = Encoder(name, inputs=inputs)
    with torch.no_grad():
        maps = encoder(torch.rand(2, inputs, 64, 96) * 2 - 1)
    assert encoder.channels == CHANNELS[name]
    assert [tuple(each.shape) for each in maps] == [
        (2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(CHANNELS[name], (2, 4, 8, 16, 32), strict=True)
    ]


@each_name
def test_published_weights_compute_what_the_paper_s_layers_do(name):
    tensors, encoder = folded(name), Encoder(name, inputs=3)
    tensors["layer99.weight"] = torch.randn(1000, 7)  # the classifier's, which is left out
    tensors["layer99.bias"] = torch.randn(1000)
    encoder.load_backbone(tensors)
    x = torch.rand(1, 3, 64, 96) * 2 - 1

    def layer(n, y, stride, padding, groups):
        weight, bias = tensors[f"layer{n:02}.weight"], tensors[f"layer{n:02}.bias"]
        return F.conv2d(y, weight, bias, stride, padding, groups=groups)

    with torch.no_grad():
        maps, expected = encoder(x), forward(name, x, layer)
    assert len(expected) == 5
    for ours, theirs in zip(maps, expected, strict=True):
        assert theirs.std() > 0.1
        assert_close(ours, theirs)


@each_name
def test_a_grey_encoder_sees_grey_as_the_colour_encoder_does(name):
    tensors = folded(name)
    grey, colour = Encoder(name, inputs=1), Encoder(name, inputs=3)
    grey.load_backbone(tensors)
    colour.load_backbone(tensors)
    x = torch.rand(1, 1, 64, 64) * 2 - 1
    with torch.no_grad():
        for ours, theirs in zip(grey(x), colour(x.expand(-1, 3, -1, -1)), strict=True):
            assert_close(ours, theirs)


def timm_names():
    """(convolution, norm) of timm's MobileNetV2, in order."""
    yield "conv_stem", "bn1"
    for i, (expansion, _, blocks, _) in enumerate(V2):
        for j in range(blocks):
            names = ("conv_pw", "conv_dw", "conv_pwl") if expansion > 1 else ("conv_dw", "conv_pw")
            for n, name in enumerate(names, 1):
                yield f"blocks.{i}.{j}.{name}", f"blocks.{i}.{j}.bn{n}"


def of_timm():
    """A state dictionary with batch norms, as a checkpoint of timm's has it."""
    tensors = {}
    weights = folded("mobilenet_v2_100")
    for n, (name, norm) in enumerate(timm_names()):
        weight = weights[f"layer{n:02}.weight"]
        tensors |= {f"{name}.weight": weight} | norm_of(norm, len(weight))
    tensors |= {"conv_head.weight": torch.randn(1280, 320, 1, 1)} | norm_of("bn2", 1280)
    tensors |= {"classifier.weight": torch.randn(1000, 1280), "classifier.bias": torch.randn(1000)}
    return tensors


def norm_of(name, channels):
    return {
        f"{name}.weight": torch.rand(channels) + 0.5,
        f"{name}.bias": torch.randn(channels) * 0.5,
        f"{name}.running_mean": torch.randn(channels) * 0.3,
        f"{name}.running_var": torch.rand(channels) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def test_a_checkpoint_of_timm_s_computes_what_it_did_with_its_norms():
    tensors, encoder = of_timm(), Encoder("mobilenet_v2_100", inputs=3)
    encoder.load_backbone(tensors)
    names = [*timm_names()]

    def layer(n, y, stride, padding, groups):
        name, norm = names[n]
        y = F.conv2d(y, tensors[f"{name}.weight"], None, stride, padding, groups=groups)
        mean, variance = tensors[f"{norm}.running_mean"], tensors[f"{norm}.running_var"]
        return F.batch_norm(y, mean, variance, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"])

    photo = torch.rand(1, 3, 160, 160)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (photo - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    with torch.no_grad():
        maps = encoder(2 * photo - 1)
        expected = forward("mobilenet_v2_100", normalised, layer)
    # Zeros around a photo are black to timm's network and grey to ours: what sees the border
    # differs, in the maps' outermost rows.
    for ours, theirs, margin in zip(maps[:3], expected[:3], (2, 3, 5), strict=True):
        ours, theirs = (each[..., margin:-margin, margin:-margin] for each in (ours, theirs))
        assert theirs.std() > 0.1
        assert_close(ours, theirs)


def without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


def test_weights_that_do_not_fit_are_refused():
    encoder = Encoder("mobilenet_v2_100")
    tensors, timm = folded("mobilenet_v2_100"), of_timm()
    wrong = {"layer03.weight": torch.zeros(7, 16, 1, 1)}
    few = dict(list(tensors.items())[:20])
    for given, message in (
        (tensors | wrong, r"layer 3 has the shape \(7, 16, 1, 1\), this network's \(96, 16, 1, 1"),
        (folded("mobilenet_edgetpu_075"), "another network"),
        (without(tensors, "layer05.bias"), "no 'layer05.bias'"),
        (few, "has 10 layers, this network 51"),
        ({}, "has 0 layers"),
        ({"classifier": torch.zeros(3)}, "has 0 layers"),
        (without(timm, "blocks.3.1.bn2.running_var"), r"no 'blocks.3.1.bn2.running_var'"),
        (without(timm, "blocks.2.0.conv_pw.weight"), r"no 'blocks.2.0.conv_pw.weight'"),
        (timm | {"blocks.1.0.conv_pw.weight": torch.zeros(7, 16, 1, 1)}, "norms do not fit"),
    ):
        with pytest.raises(OptionError, match=message):
            encoder.load_backbone(given)


@each_name
def test_half_precision_is_taken_in_full(name):
    tensors = {key: value.half() for key, value in folded(name).items()}
    encoder = Encoder(name)
    encoder.load_backbone(tensors)
    assert {each.dtype for each in encoder.parameters()} == {torch.float32}
    bias = tensors["layer00.bias"].float()
    assert torch.equal(encoder.stem[0].bias, bias)


def test_an_encoder_that_is_not_known_says_which_are():
    with pytest.raises(OptionError, match=f"'resnet50': choose from {', '.join(NAMES)}"):
        Encoder("resnet50")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
@torch.no_grad()
def test_without_autocast_a_map_keeps_its_precision(kind):
    """As on an accelerator that trains or colours in one precision throughout."""
    encoder = Encoder("mobilenet_v2_100").to(kind)
    assert [each.dtype for each in encoder(torch.zeros(1, 1, 32, 32, dtype=kind))] == [kind] * 5


def test_under_autocast_on_a_cpu_strided_gradients_are_taken_in_full():
    encoder = Encoder("mobilenet_v2_100")
    kinds = {}
    for name, module in encoder.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda module, given, result, name=name: kinds.update({name: result.dtype})
            )
    with torch.autocast("cpu", torch.bfloat16):
        encoder(torch.zeros(1, 1, 32, 32))
    strided = {
        name
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.Conv2d) and module.groups > 1 and module.stride == (2, 2)
    }
    assert {name for name, kind in kinds.items() if kind == torch.float32} == strided != set()
