"""ResNet-34 with and without shortcuts, and the classifier that teaches it."""

import pytest
import torch
import torch.nn.functional as F
from test_encoders import folded, of_timm

from colorhub.classifiers import ResNet34
from colorhub.encoders import NAMES, Teacher
from colorhub.errors import OptionError

BLOCKS = (3, 4, 6, 3)  # He et al. 2016, table 1


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def make(**changes):
    return ResNet34(ResNet34.Config(**{"classes": 7, "width": 4} | changes)).eval()


def shapes(*, classes=1000, width=64):
    """Names and shapes in torchvision's resnet34, but for the channels of a photo: one."""
    found = conv("conv1", 1, width, 7) | norm("bn1", width)
    given = width
    for stage, blocks in enumerate(BLOCKS):
        wide = width * 2**stage
        for n in range(blocks):
            name = f"layer{stage + 1}.{n}"
            found |= conv(f"{name}.conv1", given, wide, 3) | norm(f"{name}.bn1", wide)
            found |= conv(f"{name}.conv2", wide, wide, 3) | norm(f"{name}.bn2", wide)
            if given != wide:
                found |= conv(f"{name}.downsample.0", given, wide, 1)
                found |= norm(f"{name}.downsample.1", wide)
            given = wide
    return found | {"fc.weight": (classes, 8 * width), "fc.bias": (classes,)}


def conv(name, given, made, side):
    return {f"{name}.weight": (made, given, side, side)}


def norm(name, channels):
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def on_meta(**changes):
    with torch.device("meta"):
        return ResNet34(ResNet34.Config(**changes))


def of(network):
    return {name: tuple(each.shape) for name, each in network.state_dict().items()}


def test_names_and_shapes_are_those_of_torchvision():
    network = on_meta()
    assert of(network) == shapes()
    assert "layer2.0.downsample.0.weight" in of(network)
    # torchvision says 21,797,672; 6,272 of them are the first layer's for two more channels.
    assert sum(each.numel() for each in network.parameters()) == 21_797_672 - 6_272
    assert of(on_meta(classes=10, width=2)) == shapes(classes=10, width=2)


def trained(network, grey):
    """With norms as after some training, that none of their parts can be missed."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            module.momentum = 1.0
    network.train()(grey)
    return network.eval()


def forward(tensors, x, *, shortcuts):
    """The network written down again."""

    def layer(x, conv, bn, stride=1):
        weight = tensors[f"{conv}.weight"]
        x = F.conv2d(x, weight, None, stride, weight.shape[2] // 2)
        parts = [tensors[f"{bn}.{part}"] for part in ("running_mean", "running_var")]
        return F.batch_norm(x, *parts, tensors[f"{bn}.weight"], tensors[f"{bn}.bias"])

    x = F.max_pool2d(layer(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for stage, blocks in enumerate(BLOCKS):
        for n in range(blocks):
            name, stride = f"layer{stage + 1}.{n}", 2 if stage and not n else 1
            y = layer(x, f"{name}.conv1", f"{name}.bn1", stride).relu()
            y = layer(y, f"{name}.conv2", f"{name}.bn2")
            if stride == 2 and shortcuts:
                x = layer(x, f"{name}.downsample.0", f"{name}.downsample.1", 2)
            x = (x + y if shortcuts else y).relu()
    return F.linear(x.mean((2, 3)), tensors["fc.weight"], tensors["fc.bias"])


@pytest.mark.parametrize("shortcuts", [True, False])
@pytest.mark.parametrize("size", [(28, 28), (70, 33)])
@torch.no_grad()
def test_a_picture_has_as_many_logits_as_there_are_classes(size, shortcuts):
    grey = torch.rand(3, 1, *size)
    network = trained(make(shortcuts=shortcuts), grey)
    logits = network(grey)
    assert logits.shape == (3, 7)
    expected = forward(network.state_dict(), grey, shortcuts=shortcuts)
    assert (expected[0] - expected[1]).abs().max() > 1e-2
    torch.testing.assert_close(logits, expected)


def test_without_shortcuts_nothing_goes_past_a_block():
    plain = make(shortcuts=False)
    assert of(plain) == {
        name: shape
        for name, shape in shapes(classes=7, width=4).items()
        if "downsample" not in name
    }
    x = torch.rand(1, 4, 5, 5)
    assert torch.equal(make_block(make())(x), x)
    assert not make_block(plain)(x).any()


def make_block(network):
    """A block that computes nothing itself."""
    block = network.layer1[1]
    for part in block.bn2.parameters():
        torch.nn.init.zeros_(part)
    return block


@pytest.mark.parametrize("wrong", [{"classes": 0}, {"width": 0}])
def test_a_classifier_that_cannot_be_is_refused(wrong):
    with pytest.raises(OptionError, match="classes and width must be 1 or more"):
        ResNet34.Config(**wrong)


def published(name):
    """A teacher's weights by the names that folded layers have, the classifier's at the end."""
    tensors, wide = folded(name), Teacher(name).encoder.channels[-1]
    tensors["layer90.weight"] = torch.randn(1280, wide, 1, 1) * (2 / wide) ** 0.5
    tensors["layer90.bias"] = torch.randn(1280) * 0.5
    tensors["layer91.weight"] = torch.randn(1000, 1280, 1, 1) * (2 / 1280) ** 0.5
    tensors["layer91.bias"] = torch.randn(1000) * 0.5
    return tensors


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_teacher_gives_the_logits_of_the_published_classifier(name):
    teacher, tensors = Teacher(name), published(name)
    teacher.load_backbone(tensors)
    rgb = torch.rand(2, 3, 64, 32) * 2 - 1
    maps = teacher.encoder(rgb)[-1]
    x = F.conv2d(maps, tensors["layer90.weight"], tensors["layer90.bias"])
    x = (x.clamp(0, 6) if name == "mobilenet_v2_100" else x.relu()).mean((2, 3))
    expected = F.linear(x, tensors["layer91.weight"].flatten(1), tensors["layer91.bias"])
    logits = teacher(rgb)
    assert logits.shape == (2, 1000)
    assert (logits[0] - logits[1]).std() > 0.01
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(teacher.encoder.stem[0].weight, tensors["layer00.weight"])


@torch.no_grad()
def test_a_teacher_takes_a_whole_checkpoint_of_timm_s():
    teacher, tensors = Teacher("mobilenet_v2_100"), of_timm()
    teacher.load_backbone(tensors)
    rgb = torch.rand(2, 3, 64, 32) * 2 - 1
    x = F.conv2d(teacher.encoder(rgb)[-1], tensors["conv_head.weight"])
    mean, variance, weight, bias = (
        tensors[f"bn2.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
    )
    x = F.batch_norm(x, mean, variance, weight, bias).clamp(0, 6).mean((2, 3))
    expected = F.linear(x, tensors["classifier.weight"], tensors["classifier.bias"])
    assert expected.std() > 0.1
    torch.testing.assert_close(teacher(rgb), expected, rtol=1e-3, atol=1e-3)


def test_weights_that_a_teacher_cannot_use_are_refused():
    teacher = Teacher("mobilenet_v2_100")
    tensors = published("mobilenet_v2_100")
    narrow = {"layer90.weight": torch.zeros(9, 320, 1, 1)}
    for given, message in (
        (folded("mobilenet_v2_100"), "has no classifier"),
        ({k: v for k, v in of_timm().items() if "classifier" not in k}, "has no classifier"),
        (tensors | narrow, r"layer 0 has the shape \(9, 320, 1, 1\)"),
        (published("mobilenet_edgetpu_075"), "another network"),
    ):
        with pytest.raises(OptionError, match=message):
            teacher.load_backbone(given)
