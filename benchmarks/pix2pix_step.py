"""A training step of pix2pix at the paper's size: ours beside the usual one, in fp32 and bf16.

    python benchmarks/pix2pix_step.py [--rounds 5]

Both are a U-Net of 54 M parameters against a PatchGAN on 16 photos of 256 pixels: the generator
once, the critic on true and coloured photos, the critic once more for the generator. The usual one
is built here from the layer tables of Isola et al. 2017, with tensors laid out as PyTorch does by
default and Adam as it comes. Data are not part of it. Each has a process of its own, and they take
turns; read the ratios.
"""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median

import torch
import torch.nn.functional as F
import tyro
from networks import pix2pix
from torch import nn

from colorhub.critics import CriticConfig, PatchCritic
from colorhub.generators import UNet
from colorhub.launch import keep_freed_memory
from colorhub.layers import channels_last
from colorhub.objectives import GAN


@dataclass(frozen=True)
class Config:
    rounds: int = 3
    """Steps that a figure is the median of, after one to warm up."""
    batch: int = 16
    """Photos a step."""
    resolution: int = 256
    """Pixels of their sides; a multiple of 256."""
    threads: int = 2
    """Threads."""


def trainer(name: str, config: Config) -> Callable[[torch.dtype], float]:
    """A step of train/pix2pix.py by the GAN objective and 100 times L1, which gives its seconds."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    size, critic = config.resolution, PatchCritic(CriticConfig())
    lightness, ab = (2 * torch.rand(config.batch, n, size, size) - 1 for n in (1, 2))
    generator: nn.Module = pix2pix()
    if name == "ours":
        keep_freed_memory()
        generator = channels_last(UNet(UNet.Config(resolution=256, dropout=0.0)))
        critic = channels_last(critic)
        lightness, ab = (each.to(memory_format=torch.channels_last) for each in (lightness, ab))
    first, second = (
        torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999), fused=name == "ours")
        for network in (generator, critic)
    )
    objective = GAN()

    def step(kind: torch.dtype) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", kind, kind != torch.float32):
            fake = generator(lightness)
            critic.requires_grad_(True)
            objective.critic(critic(lightness, ab), critic(lightness, fake.detach())).backward()
            second.step()
            second.zero_grad()
            critic.requires_grad_(False)
            adversarial = objective.generator(critic(lightness, fake))
            (adversarial + 100 * F.l1_loss(fake.float(), ab)).backward()
            first.step()
            first.zero_grad()
        return time.perf_counter() - start

    return step


def serve(name: str, config: Config, pipe: Connection) -> None:
    """A process that steps when it is asked to."""
    step = trainer(name, config)
    while kind := pipe.recv():
        pipe.send(step(kind))


def main(config: Config) -> None:
    context = multiprocessing.get_context("spawn")
    pipes = []
    for name in ("usual", "ours"):
        here, there = context.Pipe()
        context.Process(target=serve, args=(name, config, there), daemon=True).start()
        pipes.append(here)

    def seconds(pipe: Connection, kind: torch.dtype) -> float:
        pipe.send(kind)
        return pipe.recv()

    print(f"photos/s, {config.batch} photos of {config.resolution} px, {config.threads} threads\n")
    print("| | usual | ours | ratio, lowest to highest |\n|---|---|---|---|")
    for kind in (torch.float32, torch.bfloat16):
        turns = [[seconds(pipe, kind) for pipe in pipes] for _ in range(config.rounds + 1)][1:]
        rates = [config.batch / median(turn[n] for turn in turns) for n in range(2)]
        ratios = [usual / ours for usual, ours in turns]
        print(
            f"| {str(kind).removeprefix('torch.')} | {rates[0]:.2f} | {rates[1]:.2f} | "
            f"{median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f} |",
            flush=True,
        )
    for pipe in pipes:
        pipe.send(None)


if __name__ == "__main__":
    main(tyro.cli(Config, use_underscores=True))
