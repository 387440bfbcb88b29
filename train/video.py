"""FlowChroma: films coloured by a fusion model that an LSTM tells what came before.

    accelerate launch train/video.py --dataset_name data/photos --video_dataset data/video \
        --hold_back fox --init_from fusion --resolution 128 --width 48 --extractor resnet34 \
        --extractor_width 32 --extractor_size 128 --output_dir runs/flowchroma

Clips come from a data set of frames (`--video_dataset`), from a folder of films
(`--video_folder`), and from photos over which a window moves (`--dataset_name`): any one of these
is enough. With `--init_from` a fusion model, its weights are what every frame starts from. The loss
is the papers' MSE on ab; `--lambda_temporal` adds how the error changes along the optical flow.
Clips that are held back are what the result is measured on, beside the model it started from.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from colorhub import hub, metrics, motion, regression, weights
from colorhub.clips import Moving, Scene, Source, flicker, mixed
from colorhub.color import lightness_of, rgb_to_lab, to_lightness
from colorhub.colorizer import fit, paint, to_tensor
from colorhub.data import rows_of
from colorhub.errors import OptionError
from colorhub.generators import FlowChroma, Fusion
from colorhub.launch import main
from colorhub.provenance import dataset_facts, public_words
from colorhub.runlog import say
from colorhub.samples import sample_photos
from colorhub.training import Run


@dataclass(frozen=True)
class Config(regression.Regression):
    """Options of FlowChroma. --dataset_name and --data_files name photos to move over."""

    network: FlowChroma.Config = field(default_factory=FlowChroma.Config)
    extractor_from: str | None = None
    """The extractor's weights, as of train/fusion.py; not needed with --init_from."""
    video_dataset: str | None = None
    """Data set of frames, sorted by clip and frame, with a column of pictures and one that names
    the clip."""
    video_column: str = "video"
    """Column of --video_dataset that names the clip of a frame."""
    video_folder: str | None = None
    """Folder of films (mp4, mov, mkv, webm, avi, ...)."""
    hold_back: tuple[str, ...] = ()
    """Clips to measure the result on instead of training on them: their names, or their films'
    without the ending."""
    clip_frames: int = 16
    """Frames of a clip in training, at most --frames."""
    clip_share: float = 0.25
    """Share of the clips that come from films, where there are photos as well."""
    pan: float = Moving.pan
    """Way of the window over a photo along each side, as a share of it, at the most."""
    zoom: float = Moving.zoom
    """Share by which that window grows or shrinks, at the most."""
    freeze_encoder: bool = False
    """Keep the encoder as it started, with --init_from: a step takes two thirds of the time."""
    lambda_temporal: float = 0.0
    """Weight of the mean squared change of the error of ab along the optical flow."""
    train_batch_size: int = 4
    """Clips a step, for each process."""
    output_dir: Path = Path("runs/flowchroma")
    """Folder of the variant, with checkpoints/ beside it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.clip_frames <= self.network.frames:
            raise OptionError(
                f"--clip_frames is {self.clip_frames}: give 1 to {self.network.frames} (--frames)."
            )
        if not 0 < self.clip_share < 1:
            raise OptionError(f"--clip_share is {self.clip_share}: give a share between 0 and 1.")
        if self.hold_back and not self.films:
            raise OptionError("--hold_back names clips of --video_dataset or --video_folder.")
        if self.network.extractor == "resnet34" and not (self.extractor_from or self.init_from):
            raise OptionError("--extractor resnet34 needs --extractor_from or --init_from.")
        Moving(self.clip_frames, self.pan, self.zoom)  # which refuses what is no way to move

    def _check_data(self) -> None:
        if self.dataset_name and self.data_files:
            raise OptionError("Photos come from --dataset_name or --data_files, not from both.")
        if not (self.films or self.dataset_name or self.data_files):
            raise OptionError(
                "Say what to train on: --video_dataset, --video_folder, or photos by "
                "--dataset_name or --data_files."
            )
        if self.validation_split:
            raise OptionError("Films are measured on the clips of --hold_back: name some there.")

    @property
    def films(self) -> bool:
        """Whether there are clips of films."""
        return bool(self.video_dataset or self.video_folder)

    @property
    def measured_split(self) -> str | None:
        """The split of the clips held back."""
        return self.train_split if self.hold_back else None

    @property
    def source(self) -> Source:
        """Where clips of films come from."""
        return Source(
            self.video_dataset,
            self.video_folder,
            frames=self.clip_frames,
            hold_back=self.hold_back,
            split=self.train_split,
            image_column=self.image_column,
            video_column=self.video_column,
            streaming=self.streaming,
        )

    @property
    def view(self) -> Moving:
        """What is made of a photo or a film strip before training sees it."""
        return Moving(self.clip_frames, self.pan, self.zoom)


class Filming:
    """Clips to (lightness, ab), stills of moved photographs, and figures of clips held back."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.gain = config.network.ab_gain
        self.photos = sample_photos(config.validation_images)

    def batch(self, photos: Tensor) -> tuple[Tensor, ...]:
        """(N, 3T, R, R) to (lightness (N, T, 1, R, R), ab (N, T, 2, R, R)), both in [-1, 1]."""
        rgb = photos.unflatten(1, (-1, 3))
        lab = rgb_to_lab(rgb.flatten(0, 1).float() / 255)
        frames = to_lightness(lab), lab[:, 1:] / self.gain
        lightness, ab = (each.unflatten(0, rgb.shape[:2]) for each in frames)
        return lightness, ab

    def statistics(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The mean colour, in Lab units."""
        a, b = self.gain * batch[1].mean(dim=(0, 1, 3, 4))
        return {"mean a": a, "mean b": b}

    def samples(self, generator: Any, device: str) -> Image.Image:
        """Input, truth and output of moved photographs: the first, middle and last frame."""
        config = self.config
        side, view, draw = config.network.resolution, config.view, _steady()
        rows = []
        for photo in self.photos:
            frames = view.over(photo, side, draw)
            ab = _colour(generator.eval(), frames)
            pictures = []
            for place in (0, len(frames) // 2, len(frames) - 1):
                truth, colours = frames[place], ab[place : place + 1]
                pictures += [paint(truth, colours, strength=0), truth, paint(truth, colours)]
            rows.append(np.concatenate([np.asarray(each) for each in pictures], axis=1))
        return Image.fromarray(np.concatenate(rows))

    def measure(self, folder: Path, split: str, device: str) -> tuple[dict[str, Any], ...]:
        """Flicker and errors on the clips held back, beside the model of single photos."""
        config = self.config
        generator = weights.load(folder, _STARTS).to(device)
        methods = {
            "this variant": partial(_colour, generator),
            "this variant, each frame alone": partial(_colour, generator, together=1),
        }
        if config.init_from:
            source = weights.load(hub.resolve(config.init_from).folder, _STARTS).to(device)
            name = f"`{public_words([config.init_from])[0]}`"
            alone = isinstance(source, Fusion)
            name, source = (
                (f"{name}, each frame alone", _Alone(source)) if alone else (name, source)
            )
            methods[name] = partial(_colour, source)
        methods["grey (ab = 0)"] = _grey
        scenes = list(config.source.held_back())
        names = list(dict.fromkeys(name for name, _ in scenes))
        table = {
            "about": f"On {sum(len(frames) for _, frames in scenes)} frames of the clips held back "
            f"from training ({', '.join(names)}), means over the clips, frames at their own size. "
            "Flicker is how far ab changes along the optical flow from one frame to the next; a "
            "film of little colour flickers little, therefore the column beside.",
            "heads": _HEADS,
            "rows": [[name, *_judge(method, scenes)] for name, method in methods.items()],
        }
        facts = {"name": " ".join(_places(config)), "split": split, "clips": names}
        return facts, {"tables": [table]}


def train(config: Config) -> None:
    clips = config.source.rows() if config.films else None
    photos = None
    if config.dataset_name or config.data_files:
        photos = rows_of(config, config.train_split)
    run = Run(
        config,
        network=config.network,
        script=__file__,
        view=config.view,
        task=Filming(config),
        rows=mixed(photos, clips, share=config.clip_share, seed=config.seed),
    )
    if run.exhibit:
        run.exhibit.dataset = _facts(config, run.rows)
    generator = run.start(FlowChroma(config.network), _load_start)
    if config.extractor_from or not config.init_from:
        regression.load_extractor(generator.photo, config.extractor_from)
    generator.photo.encoder.requires_grad_(not config.freeze_encoder)
    generator, optimizer, scheduler = regression.prepare(run, generator, config)
    cosine = config.lr_scheduler == "cosine"
    for _ in run.epochs():
        for _, (lightness, ab) in run.batches():  # (N, T, 1, R, R), (N, T, 2, R, R), in [-1, 1]
            fake = generator(lightness).float()
            loss = mse = F.mse_loss(fake, ab)
            if config.lambda_temporal:
                temporal = motion.change(fake - ab, *motion.flow_of(lightness))
                loss = mse + config.lambda_temporal * temporal
                run.report(temporal=temporal)
            run.accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if cosine and run.steps_now:
                scheduler.step()
            run.report(mse=mse)
        if not cosine:
            scheduler.step(run.epoch_mean("mse"))
    run.finish()


_STARTS = {"FlowChroma": FlowChroma, "Fusion": Fusion}  # what --init_from may name
_HEADS = [
    *("", "flicker, of the truth's", "flicker over colorfulness, of the truth's"),
    *("ab RMSE ↓", "CIEDE2000 ↓", "colorfulness ratio"),
]


def _load_start(generator: FlowChroma, name: str) -> None:
    """A FlowChroma's weights, or for every frame a fusion model's, where name and shape agree."""
    source = weights.load(hub.resolve(name).folder, _STARTS)
    part = generator if isinstance(source, FlowChroma) else generator.photo
    given, own = source.state_dict(), part.state_dict()
    fitting = {
        key: each for key, each in given.items() if key in own and own[key].shape == each.shape
    }
    if not any(key.endswith("encoder.0.weight") for key in fitting):
        raise OptionError(
            f"--init_from {name} is another network, {source.config}: give --width and the others "
            "as it has them."
        )
    part.load_state_dict(fitting, strict=False)
    new = [key for key in generator.state_dict() if key.removeprefix("photo.") not in fitting]
    new = [] if isinstance(source, FlowChroma) and len(fitting) == len(own) else new
    kinds = sorted({key.removeprefix("photo.").split(".")[0] for key in new})
    say(
        f"{len(fitting)} of {len(generator.state_dict())} tensors start as those of {name}; new "
        f"are those of {', '.join(kinds) or 'nothing'}."
    )


def _places(config: Config) -> list[str]:
    """What the options name as data, without this machine's folders."""
    named = (config.dataset_name, *config.data_files, config.video_dataset, config.video_folder)
    return public_words([each for each in named if each])


def _facts(config: Config, rows: Any) -> dict[str, Any]:
    """What the card says of the data; rows that come again to fill a share are not counted."""
    facts = dataset_facts(None, config.train_split, rows, data_files=_places(config))
    if config.films and (config.dataset_name or config.data_files):
        facts.pop("photos", None)
    return facts


def _steady() -> random.Random:
    """The same moves in all samples."""
    return random.Random(0)


def _seen(frames: Sequence[Image.Image], side: int) -> Tensor:
    """What the network sees of frames: lightness (T, 1, h, w) in [-1, 1]."""
    small = [np.asarray(fit(frame, side)) for frame in frames]
    levels = torch.from_numpy(np.stack(small)).permute(3, 0, 1, 2)
    return lightness_of(levels)[:, None] / 50 - 1


class _Alone(nn.Module):
    """A network of photos called as one of clips."""

    def __init__(self, network: Fusion) -> None:
        super().__init__()
        self.network = network
        self.config = FlowChroma.Config(**asdict(network.config))

    def forward(self, clips: Tensor) -> Tensor:
        return self.network(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])


@torch.inference_mode()
def _colour(
    generator: Any, frames: Sequence[Image.Image], *, together: int | None = None
) -> Tensor:
    """ab of frames in Lab units, (T, 2, h, w), as many together as the network takes."""
    config = generator.config
    parts = _seen(frames, config.resolution).split(together or config.frames)
    device = next(generator.parameters()).device
    return torch.cat([generator(part[None].to(device))[0].cpu() for part in parts]) * config.ab_gain


def _grey(frames: Sequence[Image.Image]) -> Tensor:
    return torch.zeros(len(frames), 2, 1, 1)


def _judge(method: Callable[[Sequence[Image.Image]], Tensor], scenes: list[Scene]) -> list[str]:
    """The figures under `_HEADS`, means over the clips."""
    figures = [_judge_scene(method(frames), frames) for _, frames in scenes]
    return ["" if isnan(mean) else f"{mean:.2f}" for mean in map(fmean, zip(*figures, strict=True))]


@torch.inference_mode()
def _judge_scene(ab: Tensor, frames: Sequence[Image.Image]) -> tuple[float, ...]:
    lab = torch.cat([rgb_to_lab(to_tensor(frame)) for frame in frames])
    lightness, size = to_lightness(lab), lab.shape[-2:]
    painted = [paint(frame, each[None]) for frame, each in zip(frames, ab, strict=True)]
    pairs = [
        (np.asarray(truth), np.asarray(result))
        for truth, result in zip(frames, painted, strict=True)
    ]
    flickers = (
        flicker(F.interpolate(ab, size, mode="bilinear"), lightness),
        flicker(lab[:, 1:], lightness),
    )
    calm = flickers[0] / max(flickers[1], 1e-6)
    true, given = (fmean(map(metrics.colorfulness, each)) for each in zip(*pairs, strict=True))
    colour = given / max(true, 1e-6)
    return (
        calm,
        calm / colour if colour > 0.01 else nan,
        fmean(metrics.ab_rmse(*pair) for pair in pairs),
        fmean(metrics.ciede2000(*pair) for pair in pairs),
        colour,
    )


if __name__ == "__main__":
    main(Config, train)
