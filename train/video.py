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

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from colorhub import hub, motion, regression, weights
from colorhub.clip_colouring import STARTS, ClipColouring
from colorhub.clips import Source, mixed
from colorhub.data import rows_of
from colorhub.errors import OptionError
from colorhub.generators import FlowChroma
from colorhub.launch import main
from colorhub.provenance import dataset_facts, public_words
from colorhub.runlog import say
from colorhub.samples import sample_photos
from colorhub.strips import Moving
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
    """Keep the encoder as --init_from has it, which makes steps shorter."""
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
        if self.freeze_encoder and not self.init_from:
            raise OptionError(
                "--freeze_encoder keeps the encoder of --init_from: give that as well."
            )
        if self.network.extractor == "resnet34" and not (self.extractor_from or self.init_from):
            raise OptionError("--extractor resnet34 needs --extractor_from or --init_from.")
        Moving(self.clip_frames, self.pan, self.zoom)  # which refuses what is no way to move

    def _check_data(self) -> None:
        if self.dataset_name and self.data_files:
            raise OptionError("Photos come from --dataset_name or --data_files, not from both.")
        if not (self.films or self.photos):
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
    def photos(self) -> bool:
        """Whether there are photos to move over."""
        return bool(self.dataset_name or self.data_files)

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


def train(config: Config) -> None:
    clips = config.source.rows()
    photos = rows_of(config, config.train_split) if config.photos else None
    sample = sample_photos(config.validation_images)
    run = Run(
        config,
        network=config.network,
        script=__file__,
        view=config.view,
        task=ClipColouring(config.network, config.view, config.source, sample, config.init_from),
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


def _load_start(generator: FlowChroma, name: str) -> None:
    """A FlowChroma's weights, or for every frame a fusion model's, where name and shape agree."""
    source = weights.load(hub.resolve(name).folder, STARTS)
    prefix, own = "" if isinstance(source, FlowChroma) else "photo.", generator.state_dict()
    given = {prefix + key: each for key, each in source.state_dict().items()}
    fitting = {
        key: each for key, each in given.items() if key in own and own[key].shape == each.shape
    }
    if "photo.encoder.0.weight" not in fitting:
        raise OptionError(
            f"--init_from {name} is another network, {source.config}: give --width and the others "
            "as it has them."
        )
    generator.load_state_dict(fitting, strict=False)
    new = sorted({key.removeprefix("photo.").split(".")[0] for key in own if key not in fitting})
    say(
        f"{len(fitting)} of {len(own)} tensors start as those of {name}; new are those of "
        f"{', '.join(new) or 'nothing'}."
    )


def _places(config: Config) -> list[str]:
    """What the options name as data, without this machine's folders."""
    named = (config.dataset_name, *config.data_files, config.video_dataset, config.video_folder)
    return public_words([each for each in named if each])


def _facts(config: Config, rows: Any) -> dict[str, Any]:
    """What the card says of the data; rows that come again to fill a share are not counted."""
    facts = dataset_facts(None, config.train_split, rows, data_files=_places(config))
    if config.films and config.photos:
        facts.pop("photos", None)
    return facts


if __name__ == "__main__":
    main(Config, train)
