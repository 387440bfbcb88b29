"""Two processes train as one does with the joined batch: every objective, on accelerate.

Each method takes the turns that the scripts take, with dropout, noise and batch norm on, with and
without accumulation of gradients. One pair of processes runs all cases; the tests compare.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from unittest import mock

import pytest
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, GradientState, PartialState
from conftest import make_generator
from torch import nn

from colorhub.critics import ConvCritic, EnergyCritic, PatchCritic
from colorhub.launch import full_precision
from colorhub.objectives import (
    OBJECTIVES,
    Objective,
    clip_weights,
    gradient_penalty,
    pull_away,
    r1_penalty,
)
from colorhub.ranks import own_rows

STEPS = 3
JOINED = 4  # photos in a joined micro-batch
# Sums in fp32 depend on their order. As a share of each tensor's largest entry, gradients of the
# first step were seen to differ by up to 2e-5, and what three steps changed by up to 1.2e-2 (where
# the critic's norms make much of little; without them by 7e-4).
GRADIENT_TOLERANCE = 1e-4
CHANGE_TOLERANCE = 3e-2


def small(critic):
    return critic(critic.Config(critic_width=4, critic_depth=2))


@dataclass(frozen=True)
class Method:
    objective: Objective
    critic: type = ConvCritic
    pull_away: Callable | None = None
    clip: float | None = None
    penalties: bool = False
    averaged: bool = True  # gradients, by DDP


def pull_away_of_own_photos(embedding):
    with mock.patch("colorhub.objectives.gather_rows", lambda x: x):
        return pull_away(embedding)


METHODS = {
    **{name: Method(objective(), PatchCritic) for name, objective in OBJECTIVES.items()},
    "ebgan": Method(OBJECTIVES["ebgan"](), EnergyCritic, pull_away),
    "wgan": Method(OBJECTIVES["wgan"](), PatchCritic, clip=0.1),
    "wgan-penalties": Method(OBJECTIVES["wgan"](), penalties=True),
}
WRONG = {
    "gan": replace(METHODS["gan"], averaged=False),
    "ebgan": replace(METHODS["ebgan"], pull_away=pull_away_of_own_photos),
}
ACCUMULATIONS = 1, 2


def train(method, accumulation):
    """The first step's gradients and what all steps changed, by name, of both networks."""
    accelerator = Accelerator(
        cpu=True,
        gradient_accumulation_steps=accumulation,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    networks = nn.ModuleDict(
        {"generator": make_generator().train(), "critic": small(method.critic)}
    )
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    generator, critic = networks.values()
    if method.averaged:
        generator, critic = accelerator.prepare(generator, critic)
    generator_optimizer, critic_optimizer = accelerator.prepare(
        torch.optim.SGD(generator.parameters(), lr=0.1),
        torch.optim.SGD(critic.parameters(), lr=0.1),
    )
    critic_fp32 = full_precision(networks["critic"])
    objective, gradients = method.objective, {}

    for step in range(STEPS):
        for micro in range(accumulation):
            torch.manual_seed(10 * step + micro)
            lightness = own_rows(torch.rand(JOINED, 1, 16, 16) * 2 - 1)
            ab = own_rows(torch.rand(JOINED, 2, 16, 16) * 2 - 1)
            with accelerator.accumulate(generator, critic):
                fake = generator(lightness)

                critic.requires_grad_(True)
                loss = objective.critic(critic(lightness, ab), critic(lightness, fake.detach()))
                if method.penalties:
                    loss = loss + 10 * gradient_penalty(critic_fp32, lightness, ab, fake)
                    loss = loss + r1_penalty(critic_fp32, lightness, ab)
                accelerator.backward(loss)
                if step == 0:
                    gradients |= gradients_of(networks, "critic")
                critic_optimizer.step()
                critic_optimizer.zero_grad()
                if method.clip and accelerator.sync_gradients:
                    clip_weights(critic, method.clip)
                critic.requires_grad_(False)

                if method.pull_away:
                    energy, embedding = critic(lightness, fake, embedding=True)
                    loss = objective.generator(energy) + 0.1 * method.pull_away(embedding)
                else:
                    loss = objective.generator(critic(lightness, fake))
                accelerator.backward(loss)
                if step == 0:
                    gradients |= gradients_of(networks, "generator")
                generator_optimizer.step()
                generator_optimizer.zero_grad()

    after = networks.state_dict()
    return gradients, {name: (after[name] - value).numpy() for name, value in before.items()}


def gradients_of(networks, part):
    parameters = networks[part].named_parameters(prefix=part)
    # Arrays: each tensor that goes to another process would be an open file in both.
    return {name: parameter.grad.numpy().copy() for name, parameter in parameters}


def train_all(methods):
    results = {}
    for name, method in methods.items():
        for accumulation in ACCUMULATIONS:
            results[name, accumulation] = train(method, accumulation)
            for state in (AcceleratorState, GradientState, PartialState):
                state._reset_state()
    return results


def one_of_two(rank, port):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    results = train_all(METHODS), train_all(WRONG)
    torch.distributed.destroy_process_group()
    return results


@pytest.fixture(scope="module")
def results():
    """Of one process, and of each of two: what METHODS and what WRONG came to."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(one_of_two, rank, port) for rank in range(2)]
        pairs = [job.result() for job in jobs]
    return train_all(METHODS), pairs


def apart(one, two, tolerance):
    """Names of the tensors that differ by more, with their difference."""
    assert one.keys() == two.keys()
    differences = {}
    for name, value in one.items():
        # A linear layer's bias adds the same to real and fake: for wgan its gradient is zero.
        scale = abs(value).max() + 1e-5
        differences[name] = (abs(two[name] - value).max() / scale).item()
    return {name: difference for name, difference in differences.items() if difference > tolerance}


each_accumulation = pytest.mark.parametrize("accumulation", ACCUMULATIONS)


@each_accumulation
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_have_the_first_gradients_of_one(name, accumulation, results):
    alone, ranks = results
    one, _ = alone[name, accumulation]
    for right, _ in ranks:
        two, _ = right[name, accumulation]
        assert apart(one, two, GRADIENT_TOLERANCE) == {}


@each_accumulation
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_are_after_three_steps_where_one_is(name, accumulation, results):
    alone, ranks = results
    _, one = alone[name, accumulation]
    for part in ("generator", "critic"):
        assert any(change.any() for key, change in one.items() if key.startswith(part))
    for right, _ in ranks:
        _, two = right[name, accumulation]
        assert apart(one, two, CHANGE_TOLERANCE) == {}


@each_accumulation
@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_shared_between_two_processes_is_noticed(name, accumulation, results):
    alone, ranks = results
    for _, wrong in ranks:
        for one, two, tolerance in zip(
            alone[name, accumulation],
            wrong[name, accumulation],
            (GRADIENT_TOLERANCE, CHANGE_TOLERANCE),
            strict=True,
        ):
            assert apart(one, two, 10 * tolerance)
