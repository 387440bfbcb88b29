"""The fusion model over time: clips in, colours out, and what frames know of each other."""

from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

from colorhub import weights
from colorhub.errors import OptionError, VariantError
from colorhub.generators import KINDS, FlowChroma, Fusion

SMALL = FlowChroma.Config(
    resolution=32,
    width=4,
    encoder="pooled",
    extractor="resnet34",
    extractor_width=2,
    extractor_size=20,
    frames=5,
    lstm_width=6,
    ab_gain=110.0,
)


@pytest.fixture
def generator():
    """With an LSTM that is heard."""
    torch.manual_seed(0)
    network = FlowChroma(SMALL).eval()
    torch.nn.init.normal_(network.recalled.weight)
    return network


def clips(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("shape", [(2, 5, 1, 32, 32), (1, 3, 1, 31, 45), (3, 1, 1, 1, 1)])
@torch.no_grad()
def test_a_clip_of_any_size_and_length_up_to_the_longest_is_coloured(generator, shape):
    ab = generator(clips(*shape))
    assert ab.shape == (*shape[:2], 2, *shape[3:])
    assert ab.abs().max() <= 1


def test_a_longer_clip_is_refused(generator):
    with pytest.raises(OptionError, match="A clip of 6 frames: this network takes 5 at a time"):
        generator(clips(1, 6, 1, 16, 16))


@torch.no_grad()
def test_untrained_it_colours_every_frame_as_its_fusion_model_does():
    generator, lightness = FlowChroma(SMALL).eval(), clips(2, 4, 1, 24, 16)
    alone = generator.photo(lightness.flatten(0, 1)).unflatten(0, (2, 4))
    assert torch.equal(generator(lightness), alone)


@torch.no_grad()
def test_frames_know_those_before_them_and_not_those_after(generator):
    lightness = clips(1, 5, 1, 24, 16)
    changed = lightness.clone()
    changed[:, 2] *= -1
    before, after = generator(lightness), generator(changed)
    torch.testing.assert_close(before[:, :2], after[:, :2])
    for frame in (3, 4):
        assert (before[:, frame] - after[:, frame]).abs().max() > 1e-4
    torch.testing.assert_close(generator(lightness[:, :3]), before[:, :3])


@torch.no_grad()
def test_clips_of_a_batch_do_not_know_each_other(generator):
    lightness = clips(3, 4, 1, 24, 16)
    alone = torch.cat([generator(clip[None]) for clip in lightness])
    torch.testing.assert_close(generator(lightness), alone)


@torch.no_grad()
def test_what_the_lstm_says_is_fused_as_a_convolution_of_the_joined_maps(generator):
    lightness = clips(1, 3, 1, 24, 16)
    photo, pictures = generator.photo, lightness[0]
    encoded = photo.encode(pictures)
    recalled = generator.lstm(generator.norm(encoded.mean((2, 3)))[None])[0][0]
    told = torch.cat((photo.embed(pictures), recalled), dim=1)[:, :, None, None]
    joined = torch.cat((encoded, told.expand(-1, -1, *encoded.shape[2:])), dim=1)
    parts = (photo.embedded.weight, generator.recalled.weight)
    weight = torch.cat((photo.fusion.weight, *(each[..., None, None] for each in parts)), dim=1)
    half = photo.decoder(F.conv2d(joined, weight, photo.fusion.bias).relu())
    expected = half.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(generator(lightness)[0], expected)


@torch.no_grad()
def test_a_saved_network_comes_back_the_same(generator, tmp_path):
    weights.save(generator, tmp_path, half=False)
    again = weights.load(tmp_path, KINDS["video"])
    assert again.config == SMALL and weights.kind_of(tmp_path) == "video"
    lightness = clips(1, 4, 1, 20, 24)
    assert torch.equal(again(lightness), generator(lightness))
    with pytest.raises(VariantError, match="of kind video"):
        weights.load(tmp_path)


def test_training_leaves_the_extractor_alone_and_reaches_all_else():
    generator = FlowChroma(SMALL).train()
    torch.nn.init.normal_(generator.recalled.weight)
    generator(clips(2, 3, 1, 16, 16)).square().mean().backward()
    assert not generator.photo.extractor.training
    for name, each in generator.named_parameters():
        assert (each.grad is None) is name.startswith("photo.extractor."), name


def test_a_clip_can_be_learned_by_heart():
    torch.manual_seed(0)
    generator = FlowChroma(replace(SMALL, width=8, encoder="strided")).train()
    lightness = clips(1, 3, 1, 16, 16)
    # Colours that depend on the frame's number, of frames that are all the same.
    lightness, ab = lightness[:, :1].repeat(1, 3, 1, 1, 1), torch.zeros(1, 3, 2, 16, 16)
    ab[:, 1], ab[:, 2] = 0.2, -0.2
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)
    for _ in range(200):
        loss = F.mse_loss(generator(lightness), ab)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < ab.square().mean() / 4:
            return
    raise AssertionError(f"the loss is still {loss.item()}")


def test_a_configuration_is_a_fusion_model_s_and_more():
    fusion = Fusion.Config(**{name: asdict(SMALL)[name] for name in asdict(Fusion.Config())})
    assert replace(SMALL, frames=16, lstm_width=256) == FlowChroma.Config(**asdict(fusion))
    assert "LSTM" in SMALL.paper.network
    with pytest.raises(OptionError, match="--frames is 0"):
        replace(SMALL, frames=0)
    with pytest.raises(OptionError, match="widths above 1"):
        replace(SMALL, width=1)
