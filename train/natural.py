"""colorhub's own colorizer: a pretrained encoder, colour queries, photos aged like archives.

    accelerate launch train/natural.py --dataset_name data/photos --output_dir runs/natural \
        --backbone mobilenet.safetensors

Every loss that docs/natural.md compares is an option. AdamW with a warm-up and a cosine to 0; the
encoder, which knows pictures already, learns more slowly than the decoder.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR

from colorhub import hub, losses
from colorhub.critics import ConvCritic
from colorhub.degradations import AgedCrop
from colorhub.errors import OptionError
from colorhub.generators import MobileUNet
from colorhub.launch import full_precision, main
from colorhub.objectives import OBJECTIVES, gradient_penalty
from colorhub.options import Options
from colorhub.teachers import features_of, picture
from colorhub.training import Run


@dataclass(frozen=True)
class Config(Options):
    """Options of natural."""

    network: MobileUNet.Config = field(default_factory=MobileUNet.Config)
    critic: ConvCritic.Config = field(default_factory=ConvCritic.Config)
    backbone: str | None = None
    """Weights to start the encoder from: a .safetensors file, or a Hub repository of timm's such
    as timm/mobilenetv2_100.ra_in1k."""
    num_train_epochs: int = 8
    """Passes over the data set."""
    output_dir: Path = Path("runs/natural")
    """Folder of the variant, with checkpoints/ beside it."""
    learning_rate: float = 1.5e-3
    """Learning rate of the decoder after the warm-up, and of a critic throughout."""
    encoder_rate: float = 0.05
    """The encoder's learning rate as a share of the decoder's."""
    weight_decay: float = 0.05
    """AdamW's decay of the weights."""
    lr_warmup_steps: int = 200
    """Steps over which the learning rate rises from 0."""
    lr_scheduler: Literal["constant", "cosine"] = "cosine"
    """Keep the learning rate, or lower it to 0 over the whole run."""
    ema_decay: float | None = 0.999
    """Publish a running mean of the weights with this decay a step."""
    crop_size: int = 160
    """Pixels of a training crop's side, if --resolution is larger: small crops are faster, and the
    network takes any size."""
    aged: float = 0.5
    """Share of the photos that the network sees aged like archives."""
    max_zoom: float = 1.6
    """How much larger than the crop a photo's short side may be."""
    saturation_weight: float = 0.0
    """Added weight of a pixel with a chroma of 20 Lab units, in the regression."""
    rebalance: bool = True
    """Classification: weigh rare colours more."""
    lambda_colorfulness: float = 0.0
    """Weight of the colourfulness that is lacking."""
    lambda_feature: float = 0.0
    """Weight of the L1 distance of a backbone's features of the coloured and the true photo."""
    lambda_distill: float = 0.0
    """Weight of what the encoder's deepest maps of the grey picture lack of a backbone's of the
    coloured one."""
    teacher: str | None = None
    """The backbone that gives those features; by default --backbone."""
    lambda_spread: float = 0.1
    """Weight of the alternatives and of each pixel's scale, measured from the likeliest colours,
    whose own last layer they do not move."""
    lambda_adv: float = 0.0
    """Weight of a critic's score, for a short finish after --init_from (as DeOldify does)."""
    objective: Literal["gan", "lsgan", "wgan"] = "lsgan"
    """What that critic is trained towards."""
    lambda_gp: float = 10.0
    """Weight of the gradient penalty on the critic of wgan."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.aged <= 1 or self.max_zoom < 1:
            raise OptionError(
                f"--aged is {self.aged} and --max_zoom {self.max_zoom}: give a share from 0 to 1 "
                "and 1 or more."
            )
        if self.side < 4 or self.encoder_rate < 0:
            raise OptionError(
                f"--crop_size is {self.crop_size} and --encoder_rate {self.encoder_rate}: give 4 "
                "or more and 0 or more."
            )
        taught = self.lambda_feature or self.lambda_distill
        if taught and not (self.teacher or self.backbone):
            raise OptionError(
                "--lambda_feature and --lambda_distill need a --teacher or a --backbone."
            )
        if self.network.alternatives and not self.lambda_spread > 0:
            raise OptionError("--alternatives need --lambda_spread above 0 to learn from.")
        smallest = 2 ** (self.critic.critic_depth + 1)
        if self.lambda_adv and self.side < smallest:
            raise OptionError(
                f"Crops of {self.side} pixels are too small for --critic_depth "
                f"{self.critic.critic_depth}: give {smallest} or more."
            )

    @property
    def side(self) -> int:
        """Pixels of a training crop's side."""
        return min(self.crop_size, self.network.resolution)


def train(config: Config) -> None:
    network = config.network
    view = AgedCrop(config.aged, config.max_zoom)
    run = Run(config, network=network, script=__file__, view=view, side=config.side)
    bare = MobileUNet(network)
    if config.backbone:
        bare.encoder.load_backbone(hub.backbone(config.backbone))
    elif not config.init_from:
        run.accelerator.print("No --backbone: the encoder starts from random weights.")
    run.start(bare)
    encoder = {id(weight) for weight in bare.encoder.parameters()}
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in bare.parameters() if id(weight) not in encoder]},
        {"params": [*bare.encoder.parameters()], "lr": config.learning_rate * config.encoder_rate},
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    factor = run.schedule(config.lr_scheduler)
    scheduler = LambdaLR(
        optimizer, lambda step: factor(step) * min(1.0, (step + 1) / config.lr_warmup_steps)
    )
    parts = {"generator": bare, "optimizer": optimizer, "scheduler": scheduler}
    rarity = None
    if network.head == "classification" and config.rebalance:
        parts["rarity"] = rarity = losses.Rarity()
    if config.lambda_adv:
        judge = ConvCritic(config.critic)
        adam = torch.optim.Adam(judge.parameters(), lr=config.learning_rate, betas=(0.5, 0.9))
        parts |= {"critic": judge, "critic_optimizer": adam}
    ready = dict(zip(parts, run.prepare(**parts), strict=True))
    generator, optimizer = ready["generator"], ready["optimizer"]
    objective = OBJECTIVES[config.objective]()
    source = config.teacher or config.backbone
    teacher = None
    if source and (config.lambda_feature or config.lambda_distill):
        teacher = features_of(source, network.encoder, run.accelerator)
    gain = network.ab_gain

    for _ in run.epochs():
        for _, (lightness, ab) in run.batches():  # (N, 1, R, R), (N, 2, R, R), in [-1, 1]
            first, second, fake, *rest = generator(lightness, parts=True)
            truth = ab * gain
            if network.head == "classification":
                quarter = config.side // 4  # without what was padded
                whole = truth[..., : 4 * quarter, : 4 * quarter]
                logits = rest[0][..., :quarter, :quarter]
                loss = losses.classification(logits, whole, rarity)
                run.report(classes=loss)
            else:
                weight = config.saturation_weight
                loss = losses.smooth_l1(fake * gain, truth, saturation_weight=weight) / 10
                run.report(l1=loss)
            if network.alternatives:
                half = config.side // 2
                likeliest, shifts, log_scale = (part[..., :half, :half] for part in rest)
                error = F.avg_pool2d(ab, 2) - likeliest.detach()
                others = losses.nearest(error * gain, shifts * gain) / 10
                scale = losses.laplace(error, log_scale)
                loss = loss + config.lambda_spread * (others + scale)
                run.report(others=others, scale=scale)
            if config.lambda_colorfulness:
                pictures = (picture(lightness, each) for each in (fake * gain, truth))
                lacking = losses.colorfulness_gap(*pictures)
                loss = loss + config.lambda_colorfulness * lacking
                run.report(lacking=lacking)
            if teacher:
                with torch.no_grad():
                    wanted = teacher(picture(lightness, truth))
                if config.lambda_distill:
                    distill = losses.relative_square((first, second), wanted[-2:])
                    loss = loss + config.lambda_distill * distill
                    run.report(distill=distill)
                if config.lambda_feature:
                    seen = teacher(picture(lightness, fake * gain))
                    features = losses.features(seen, wanted)
                    loss = loss + config.lambda_feature * features
                    run.report(features=features)
            if config.lambda_adv:
                critic = ready["critic"]
                critic.requires_grad_(True)
                scores = critic(lightness, ab), critic(lightness, fake.detach())
                critic_loss = objective.critic(*scores)
                if config.objective == "wgan":
                    penalty = gradient_penalty(full_precision(judge), lightness, ab, fake.detach())
                    critic_loss = critic_loss + config.lambda_gp * penalty
                run.accelerator.backward(critic_loss)
                ready["critic_optimizer"].step()
                ready["critic_optimizer"].zero_grad()
                critic.requires_grad_(False)
                loss = loss + config.lambda_adv * objective.generator(judge(lightness, fake))
                run.report(critic=critic_loss)
            run.accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if run.steps_now:
                scheduler.step()
            run.report(generator=loss)
    run.finish()


if __name__ == "__main__":
    main(Config, train)
