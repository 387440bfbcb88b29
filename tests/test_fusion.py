"""An encoder and decoder told what a classifier sees: what is told, and how it is fused."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, make_generator
from torch import nn

from colorhub import weights
from colorhub.errors import OptionError
from colorhub.generators import Fusion
from colorhub.papers import PAINTINGS, THESIS

SMALL = Fusion.Config(
    resolution=32, width=4, extractor="resnet34", extractor_width=2, extractor_size=40
)


class Recorder(nn.Module):
    """An extractor that keeps what it is shown, and sees nothing in it."""

    def forward(self, view):
        self.view = view
        return torch.zeros(len(view), 1000)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def make(**changes):
    return Fusion(replace(SMALL, **changes)).eval()


def shown(lightness, **changes):
    """What the extractor is shown of a photo."""
    generator = make(**changes)
    generator.extractor = Recorder()
    generator(lightness)
    return generator.extractor.view


@pytest.mark.parametrize("embedding", ["softmax", "logits"])
@torch.no_grad()
def test_the_fusion_is_one_convolution_of_maps_and_repeated_embedding(embedding):
    generator = make(embedding=embedding, ab_gain=100.0)
    lightness = torch.rand(2, 1, 24, 16) * 2 - 1
    maps, told = generator.encoder(lightness), generator.embed(lightness)
    generator.embedded.weight.mul_(5 if embedding == "logits" else 5000)  # as loud as the maps
    joined = torch.cat((maps, told[:, :, None, None].expand(-1, -1, 3, 2)), dim=1)
    weight = torch.cat((generator.fusion.weight, generator.embedded.weight[..., None, None]), dim=1)
    fused = F.conv2d(joined, weight, generator.fusion.bias).relu()
    expected = generator.decoder(fused).repeat_interleave(2, 2).repeat_interleave(2, 3)
    ab = generator(lightness)
    torch.testing.assert_close(ab, expected)
    generator.embedded.weight.zero_()
    assert (generator(lightness) - ab).abs().max() > 1e-3


def test_training_leaves_the_extractor_as_it_is():
    generator = make().train()
    before = {name: each.clone() for name, each in generator.extractor.state_dict().items()}
    assert generator.training and generator.decoder.training
    assert not any(module.training for module in generator.extractor.modules())
    generator(torch.rand(2, 1, 16, 16)).square().mean().backward()
    for name, each in generator.extractor.state_dict().items():
        assert torch.equal(each, before[name]), name
    for name, each in generator.named_parameters():
        frozen = name.startswith("extractor.")
        assert each.requires_grad is not frozen and (each.grad is None) is frozen, name
    assert generator.embedded.weight.grad.any()
    assert not generator.eval().training


@torch.no_grad()
def test_the_embedding_is_probabilities_or_what_is_before_them():
    lightness = torch.rand(2, 1, 24, 16) * 2 - 1
    generator = make(embedding="logits")
    logits = generator.embed(lightness)
    assert logits.shape == (2, 1000)
    assert not torch.allclose(logits.sum(1), torch.ones(2), atol=0.1)
    sure = make(embedding="softmax")
    sure.load_state_dict(generator.state_dict())
    told = sure.embed(lightness)
    torch.testing.assert_close(told.sum(1), torch.ones(2))
    torch.testing.assert_close(told, logits.exp() / logits.exp().sum(1, keepdim=True))


@pytest.mark.parametrize("size", [(16, 32), (32, 16), (9, 40)])
@torch.no_grad()
def test_a_photo_is_stretched_to_what_the_extractor_sees(size):
    lightness = torch.rand(1, 1, *size) * 2 - 1
    view = shown(lightness, padding=False)
    expected = F.interpolate(lightness, (40, 40), mode="bilinear", antialias=True)
    torch.testing.assert_close(view, expected)


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        ((16, 32), (slice(10, 30), slice(0, 40))),
        ((80, 40), (slice(0, 40), slice(10, 30))),
        ((25, 25), (slice(0, 40), slice(0, 40))),
        ((15, 24), (slice(7, 32), slice(0, 40))),  # of an odd number of rows one more is below
    ],
)
@torch.no_grad()
def test_with_padding_a_photo_keeps_its_shape_between_white_bars(size, inner):
    lightness = torch.rand(1, 1, *size) * 2 - 1
    view = shown(lightness, padding=True)
    sides = [each.stop - each.start for each in inner]
    expected = F.interpolate(lightness, sides, mode="bilinear", antialias=True)
    assert view.shape == (1, 1, 40, 40)
    torch.testing.assert_close(view[(..., *inner)], expected)
    view[(..., *inner)] = 1
    assert (view == 1).all()


@torch.no_grad()
def test_with_padding_half_a_row_goes_to_the_even_number_of_rows():
    for height, rows in ((1, 0), (3, 2), (5, 2), (7, 4), (45, 22), (47, 24)):  # of halves
        view = shown(torch.rand(1, 1, height, 80) - 2, padding=True)
        assert (view[0, 0] < 0).any(1).sum() == max(1, rows), height


@torch.no_grad()
def test_inception_sees_grey_in_three_channels(monkeypatch):
    monkeypatch.setattr("colorhub.generators.fusion.InceptionResNetV2", Recorder)
    lightness = torch.rand(2, 1, 16, 24) * 2 - 1
    view = shown(lightness, extractor="inception_resnet_v2", extractor_size=75)
    assert view.shape == (2, 3, 75, 75)
    assert torch.equal(view[:, 0], view[:, 1]) and torch.equal(view[:, 0], view[:, 2])
    grey = shown(lightness, extractor_size=75)
    assert torch.equal(view[:, :1], grey)


def layers_of(network):
    """Filters and kernels in order, with strides, poolings and doublings of the sides."""
    words = []
    for module in network:
        if isinstance(module, nn.Conv2d):
            side, stride = module.kernel_size[0], module.stride[0]
            words.append(f"{module.out_channels}x{side}" + (f"/{stride}" if stride > 1 else ""))
        elif isinstance(module, nn.MaxPool2d | nn.Upsample):
            words.append("pool" if isinstance(module, nn.MaxPool2d) else "up")
    return " ".join(words)


# The thesis, and tables 1 and 3 of "Image Colorization"; after the decoders sides are doubled.
LAYERS = {
    "strided": "64x3/2 128x3 128x3/2 256x3 256x3/2 512x3 512x3 256x3",
    "pooled": "128x3 pool 128x4 128x3 pool 256x4 256x3 pool 256x4 256x3 256x3",
    "thesis": "128x3 up 64x3 64x3 up 32x3 2x3",
    "paintings": "128x3 64x3 up 128x3 up 64x4 64x3 32x2 2x3",
}


@pytest.mark.parametrize("encoder", ["strided", "pooled"])
@pytest.mark.parametrize("decoder", ["thesis", "paintings"])
def test_the_layers_at_a_width_of_64_are_the_papers(encoder, decoder):
    with torch.device("meta"):
        generator = make(encoder=encoder, decoder=decoder, width=64)
        maps = generator.encoder(torch.empty(1, 1, 48, 40))
        ab = generator(torch.empty(1, 1, 45, 33))
    assert layers_of(generator.encoder) == LAYERS[encoder]
    assert layers_of(generator.decoder) == LAYERS[decoder]
    assert generator.fusion.weight.shape == (256, 256, 1, 1)
    assert generator.embedded.weight.shape == (256, 1000)
    assert maps.shape == (1, 256, 6, 5)
    assert ab.shape == (1, 2, 45, 33)


@torch.no_grad()
def test_even_kernels_look_half_a_pixel_further_right_and_down():
    """As TensorFlow pads: of a kernel of 4 one place before, two after."""
    generator = make(encoder="pooled", decoder="paintings", width=2)
    pads = [each for each in generator.modules() if isinstance(each, nn.ZeroPad2d)]
    assert [each.padding for each in pads] == [(1, 2, 1, 2)] * 4 + [(0, 1, 0, 1)]


def test_a_configuration_says_which_paper_it_is_of():
    thesis, paintings = SMALL, replace(SMALL, encoder="pooled")
    assert (thesis.paper.title, thesis.paper.network) == (THESIS.title, Fusion.PAPER.network)
    assert "classifier" in thesis.paper.network
    assert paintings.paper == PAINTINGS


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoder": "pooling"}, "--encoder 'pooling': choose strided or pooled"),
        ({"decoder": "table3"}, "--decoder 'table3': choose thesis or paintings"),
        ({"extractor": "vgg"}, "--extractor 'vgg': choose inception_resnet_v2 or resnet34"),
        ({"embedding": "pca"}, "--embedding 'pca': choose softmax or logits"),
        ({"width": 1}, "widths above 1"),
        ({"extractor_width": 1}, "widths above 1"),
        ({"resolution": 0}, "give a resolution"),
        ({"extractor_size": 0}, "resnet34 needs 1 or more"),
        (
            {"extractor": "inception_resnet_v2", "extractor_size": 74},
            "--extractor_size is 74; inception_resnet_v2 needs 75 or more",
        ),
    ],
)
def test_a_fusion_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(OptionError, match=message):
        replace(SMALL, **wrong)


@torch.no_grad()
def test_a_saved_fusion_brings_its_extractor_along(tmp_path):
    generator = make_generator("Fusion")
    for name, each in generator.extractor.named_buffers():
        if each.is_floating_point():
            each.uniform_(0.5, 1.5) if name.endswith("var") else each.normal_()
    weights.save(generator, tmp_path, half=False)
    again = weights.load(tmp_path)
    assert again.config == TINY["Fusion"]
    lightness = torch.rand(2, 1, 33, 18) * 2 - 1
    assert torch.equal(again.embed(lightness), generator.embed(lightness))
    assert torch.equal(again(lightness), generator(lightness))
    assert not any(each.requires_grad for each in again.extractor.parameters())
