"""Teach a ResU-Net's encoder what is in a photo before it learns colours.

    accelerate launch train/encoder.py --dataset_name data/photos --teacher mobilenet.safetensors
    accelerate launch train/cwgan.py --dataset_name data/photos --init_from runs/encoder

From the grey photo the deepest features learn to predict those of a pretrained backbone that sees
the photo in colour (feature distillation, Romero et al. 2015). With few photos colours alone teach
little about what things are. The decoder stays as it was drawn. No paper of ours does this.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorhub.backbones import Backbone
from colorhub.color import lab_to_rgb
from colorhub.generators import ResUNet
from colorhub.layers import channels_last
from colorhub.training import Options, Run, main


@dataclass(frozen=True)
class Config(Options):
    """Options of the encoder's lessons."""

    network: ResUNet.Config = field(default_factory=ResUNet.Config)
    teacher: Path = Path("mobilenet_v2_100_trunk.safetensors")
    """The backbone's weights, with a JSON of the same name that lists its layers."""
    output_dir: Path = Path("runs/encoder")
    """Folder of the network, with checkpoints/ beside it."""
    num_train_epochs: int = 10
    """Passes over the data set."""
    learning_rate: float = 1e-3
    """Learning rate, lowered to 0 along a cosine."""


class Student(nn.Module):
    """The generator's encoder with a linear map to the teacher's features."""

    def __init__(self, generator: ResUNet, channels: int) -> None:
        super().__init__()
        self.generator = generator
        deepest = generator.config.width * 2**generator.config.depth
        self.map = nn.Conv2d(deepest, channels, 1)

    def forward(self, lightness: Tensor) -> Tensor:
        return self.map(self.generator.encode(lightness)[0])


def train(config: Config) -> None:
    run = Run(config, network=config.network, script=__file__)
    generator = run.start(ResUNet(config.network))
    teacher = channels_last(Backbone(config.teacher)).to(run.device)
    for untaught in (generator.up, generator.decoder, generator.head):
        untaught.requires_grad_(False)
    student = Student(generator, teacher.channels)
    optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, run.schedule("cosine"))
    student, optimizer, schedule = run.prepare(
        student=student, optimizer=optimizer, scheduler=schedule
    )

    for _ in run.epochs():
        for step, (lightness, ab) in run.batches():  # (N, 1, R, R), (N, 2, R, R), in [-1, 1]
            lab = torch.cat(((lightness + 1) * 50, ab * config.network.ab_gain), dim=1)
            rgb = F.interpolate(lab_to_rgb(lab).clamp(0, 1), scale_factor=2, mode="bilinear")
            with torch.no_grad(), run.accelerator.autocast():
                wanted = teacher(rgb).float()
                wanted = wanted - wanted.mean(dim=(0, 2, 3), keepdim=True)  # what is unusual here
            distance = 1 - F.cosine_similarity(student(lightness).float(), wanted).mean()
            optimizer.zero_grad()
            run.accelerator.backward(distance)
            optimizer.step()
            schedule.step()
            run.report(step, distance=distance)
    run.finish()


if __name__ == "__main__":
    main(Config, train)
