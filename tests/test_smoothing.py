"""Optical flow, smoothing along it, flicker, and scene cuts."""

import itertools

import numpy as np
import torch
from made_films import moving

from colorhub.flicker import flicker
from colorhub.flow import flow
from colorhub.scenes import is_cut
from colorhub.smoothing import Smoother

SIZE = (96, 64)


def lightness(grey):
    return torch.from_numpy(grey.astype(np.float32))[None, None] / 127.5 - 1


def test_the_flow_leads_back_to_where_things_were():
    before, now = moving(2, SIZE, speed=3.0)
    path = flow(now, before)
    x = np.arange(SIZE[0])
    inside = (slice(8, -8), slice(8, -8))
    assert np.abs(path.places[..., 0] - (x - 3))[inside].mean() < 0.5
    assert path.trust[inside].mean() > 0.8
    assert np.abs(path.warp(before).astype(int) - now)[inside].mean() < 6


def test_what_was_not_there_is_not_trusted():
    before, now = moving(2, SIZE, speed=0.0)
    now = now.copy()
    now[20:44, 30:60] = np.random.default_rng(0).integers(0, 256, (24, 30))
    trust = flow(now, before).trust
    assert trust[24:40, 34:56].mean() < 0.5
    assert trust[:12].mean() > 0.9


def test_smoothing_takes_the_flicker_of_a_moving_scene_and_keeps_its_colours():
    random, greys = np.random.default_rng(0), list(moving(16, SIZE))
    true = [np.dstack((each, 255 - each)).astype(np.float32) / 6 for each in greys]
    said = [each + random.normal(0, 6, 2).astype(np.float32) for each in true]  # each frame's own
    smoother = Smoother()
    steady = []
    for grey, ab in zip(greys, said, strict=True):
        tensor = torch.from_numpy(ab).permute(2, 0, 1)[None]
        steady.append(smoother(lightness(grey), tensor)[0].permute(1, 2, 0).numpy())
    assert flicker(greys, steady) < flicker(greys, said) / 3
    error = [np.abs(np.subtract(each, true)).mean() for each in (steady, said)]
    assert error[0] < error[1]


def test_a_state_that_is_kept_goes_on_exactly():
    greys = list(moving(8, SIZE))
    ab = [torch.randn(1, 2, *grey.shape) for grey in greys]
    one, first, second = Smoother(), Smoother(), Smoother()
    through = [one(lightness(g), each) for g, each in zip(greys, ab, strict=True)]
    for i in range(5):
        first(lightness(greys[i]), ab[i])
    second.state = {name: tensor.clone() for name, tensor in first.state.items()}
    for i in range(5, 8):
        assert torch.equal(second(lightness(greys[i]), ab[i]), through[i])


def test_a_new_scene_has_nothing_of_the_last():
    grey = next(moving(1, SIZE))
    smoother = Smoother()
    smoother(lightness(grey), torch.full((1, 2, *grey.shape), 50.0))
    smoother.reset()
    assert smoother(lightness(grey), torch.zeros(1, 2, *grey.shape)).abs().max() == 0


def test_cuts_are_told_from_motion():
    scene, other = list(moving(6, SIZE, speed=5.0)), list(moving(2, SIZE, seed=9))
    for before, now in itertools.pairwise(scene):
        assert not is_cut(lightness(before), lightness(now))
    assert is_cut(lightness(scene[-1]), lightness(255 - other[0] // 4))
    black = np.zeros_like(scene[0])
    assert is_cut(lightness(black), lightness(scene[0]))
    assert not is_cut(lightness(black), lightness(black))


def test_flicker_of_few_frames_is_none():
    grey = next(moving(1, SIZE))
    assert flicker([grey], [np.zeros((*grey.shape, 2))]) == 0
    assert flicker([], []) == 0
