"""What every training script shares: options, batches, resume, log, samples, publishing.

A script builds its networks, hands them to `Run.prepare` and writes its update in sight:

    for _ in run.epochs():
        for step, (lightness, ab) in run.batches():
            ...
            run.report(step, generator=loss)

Every random draw of a step follows from (seed, step), and ranks draw for the joined batch, so a
resumed run on local data goes on as if it had never stopped and N processes compute what one would.
"""

import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from tqdm.auto import tqdm

from colorhub import cards, checkpoints, hub, provenance, weights
from colorhub.color import rgb_to_lab, to_lightness
from colorhub.colorizer import Colorizer
from colorhub.data import PhotoBatches, is_plain_folder, open_rows
from colorhub.errors import ColorhubError, DataError, OptionError
from colorhub.evaluation import evaluate
from colorhub.launch import make_accelerator
from colorhub.layers import channels_last
from colorhub.options import Options
from colorhub.photos import save_photo
from colorhub.ranks import mean_over_ranks
from colorhub.runlog import Log
from colorhub.samples import sample_photos, triptychs

G = TypeVar("G", bound=nn.Module)


@dataclass
class Progress:
    """Where a run stands; a checkpoint holds it beside the networks."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    photos: int = 0
    seconds: float = 0.0
    mean_ab: list[float] = field(default_factory=lambda: [0.0, 0.0])
    epoch_losses: dict[str, list[float]] = field(default_factory=dict)  # name: [sum, count]
    recent_losses: dict[str, list[float]] = field(default_factory=dict)  # since the log's last row


class Run:
    """One training run: its accelerator, its data, and the furniture around the update.

    `network` is the generator's configuration; `script` is the file that was started, for the
    card.
    """

    def __init__(self, config: Options, *, network: Any, script: str) -> None:
        self.config = config
        self.resolution: int = network.resolution
        self.ab_gain: float = network.ab_gain
        self.script = Path(script).name
        self.output = Path(config.output_dir)
        self.accelerator = make_accelerator(config)
        self.is_main = self.accelerator.is_main_process
        with self.accelerator.main_process_first():  # the first prepares the cache for the others
            self.rows = open_rows(
                config.dataset_name,
                data_files=config.data_files,
                config_name=config.dataset_config_name,
                split=config.train_split,
                image_column=config.image_column,
                streaming=config.streaming,
            )
        self.photos = PhotoBatches(
            self.rows,
            resolution=self.resolution,
            batch_size=config.train_batch_size,
            seed=config.seed,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        self.progress = Progress()
        self.log = Log(self.output / "training_log.csv") if self.is_main else None
        self.parts: dict[str, Any] = {}
        self.device = self.accelerator.device
        self.repo_id: str | None = None
        if config.push_to_hub and self.is_main:  # better to fail now than after days
            name = config.hub_model_id or self.output.resolve().name
            self.repo_id = hub.create(name, private=config.hub_private_repo)
        self.dataset_facts = provenance.dataset_facts(
            config.dataset_name, config.train_split, self.rows, data_files=config.data_files
        )
        if config.validation_split and is_plain_folder(config.dataset_name):
            raise OptionError(
                f"{config.dataset_name} has no splits: put the photos to measure on into a folder "
                f"{config.validation_split}/ in it, the others into {config.train_split}/."
            )
        self.sample_photos = sample_photos(config.validation_images)
        self._cut_short = False
        self._clock = time.monotonic()
        torch.manual_seed(config.seed)  # the networks' first weights, the same on every rank

    def start(self, generator: G) -> G:
        """Make this the run's generator, with the weights of --init_from if that was given."""
        self._generator = generator
        if self.config.init_from:
            source = weights.load(hub.resolve(self.config.init_from).folder)
            try:
                generator.load_state_dict(source.state_dict())
            except RuntimeError as error:
                raise OptionError(
                    f"--init_from {self.config.init_from} is another network: {error}"
                ) from error
        return generator

    def prepare(self, **parts: Any) -> tuple[Any, ...]:
        """Networks and optimisers made ready for their devices, in order; what else has a state
        (a scheduler) is kept as it is. All are checkpointed by name, and resumed here."""
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                part = channels_last(part)
            if isinstance(part, (nn.Module, torch.optim.Optimizer)):
                part = self.accelerator.prepare(part)
            self.parts[name] = part
        self._resume()
        return tuple(self.parts.values())

    def epochs(self) -> Iterator[int]:
        """Epochs from where the run stands, counted from 1; samples and weights after each."""
        self._clock, self._bar = time.monotonic(), self._progress_bar()
        self._last_row = (self.progress.photos, self._clock)
        while not self._done():
            yield self.progress.epoch + 1
            if self._cut_short:
                return  # by --max_train_steps: the epoch may go on another time
            self.progress.epoch += 1
            self.progress.batch = 0
            self.progress.epoch_losses = {}
            self._after_epoch()

    def batches(self) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
        """The epoch's remaining steps: (step from 1, (lightness (N, 1, R, R), ab (N, 2, R, R))).

        Both are in [-1, 1], on the device. Logging and checkpoints happen between steps.
        """
        progress = self.progress
        self.photos.set_epoch(progress.epoch)
        for rgb in self._agreed_batches():
            torch.manual_seed(step_seed(self.config.seed, progress.step + 1))
            lightness, ab = self._to_lab(rgb)
            yield progress.step + 1, (lightness, ab)
            progress.step += 1
            progress.batch += 1
            progress.photos += len(rgb) * self.accelerator.num_processes
            self._bar.update()
            if log_now := progress.step % self.config.logging_steps == 0:
                self._log_row()
            if progress.step % self.config.checkpointing_steps == 0 or self._done():
                self._checkpoint()
            if self._done() and not log_now:
                self._log_row()  # after the checkpoint: a resumed run starts this row anew

    def report(self, step: int, **losses: Tensor) -> None:
        """Losses (scalars) of this step, for the log. A non-finite one raises DataError."""
        means = mean_over_ranks(torch.stack([loss.detach().float() for loss in losses.values()]))
        for name, value in zip(losses, means.tolist(), strict=True):
            if not math.isfinite(value):
                raise DataError(
                    f"The {name} loss is {value} at step {step}: training has diverged. "
                    "Resume from the latest checkpoint with a lower --learning_rate."
                )
            for sums in (self.progress.epoch_losses, self.progress.recent_losses):
                total, count = sums.get(name, (0.0, 0))
                sums[name] = [total + value, count + 1]

    def epoch_mean(self, name: str) -> float:
        """Mean of a reported loss since the epoch began, over all ranks."""
        total, count = self.progress.epoch_losses[name]
        return total / count

    def generator(self) -> Any:
        """The bare generator, without what accelerate put around it."""
        return self._generator

    def finish(self) -> None:
        """Write the last checkpoint and the variant's folder, measure it, publish it if asked."""
        if self.progress.batch == 0:
            self._checkpoint()  # a run cut short has made its own, before the epoch was wound up
        self._bar.close()
        if self.is_main:
            self._save_variant()
            self._write_samples(self.progress.epoch + (self.progress.batch > 0))
            self._measure()
            cards.write(self.output, name=self.repo_id)
            self.say(f"The variant is in {self.output}.")
            if self.repo_id:
                self._publish()
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    # -- between steps ---------------------------------------------------------------------------

    def _agreed_batches(self) -> Iterator[Tensor]:
        """Batches until one rank has none left: a rank that went on alone would wait for ever."""
        skipped: list[str] = []
        batches = islice(self._full_batches(skipped), self.progress.batch, None)
        seen = self.progress.batch
        while True:
            rgb = next(batches, None)
            if not self._all_ranks(rgb is not None):
                break
            assert rgb is not None
            seen += 1
            yield rgb
            if self._done() and self._all_ranks(next(batches, None) is not None):
                self._report_skipped(skipped)
                self._cut_short = True
                return
        self._report_skipped(skipped)
        if seen == 0:
            raise DataError(
                f"Not one batch of {self.config.train_batch_size} photos could be made: "
                f"{len(skipped)} were skipped ({'; '.join(skipped[:3])}). "
                "Give more photos or a smaller --train_batch_size."
            )

    def _full_batches(self, skipped: list[str]) -> Iterator[Tensor]:
        """This rank's batches; what a worker had left over and skipped goes to `skipped`."""
        for batch in self.photos.loader(self.config.dataloader_num_workers):
            skipped += batch.skipped
            if len(batch.rgb):
                yield batch.rgb

    def _all_ranks(self, yes: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return yes
        votes = self.accelerator.reduce(torch.tensor(int(yes), device=self.device))
        return int(votes) == self.accelerator.num_processes

    def _report_skipped(self, skipped: list[str]) -> None:
        if self.accelerator.num_processes > 1:
            skipped = gather_object(skipped)
        if skipped and self.is_main:
            self.say(f"epoch {self.progress.epoch + 1}: {len(skipped)} photos skipped")
            for reason in skipped[:20]:
                self.say(f"  {reason}")
            if len(skipped) > 20:
                self.say(f"  and {len(skipped) - 20} more")

    def _to_lab(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        lab = rgb_to_lab(rgb.to(self.device).float() / 255)
        if self.progress.epoch == 0:
            mean = mean_over_ranks(lab[:, 1:].mean(dim=(0, 2, 3))).tolist()
            share = 1 / (self.progress.step + 1)
            old = self.progress.mean_ab
            self.progress.mean_ab = [o + (m - o) * share for o, m in zip(old, mean, strict=True)]
        lightness, ab = to_lightness(lab), lab[:, 1:] / self.ab_gain
        layout = torch.channels_last
        return lightness.to(memory_format=layout), ab.to(memory_format=layout)

    def _done(self) -> bool:
        limit = self.config.max_train_steps
        return self.progress.epoch >= self.config.num_train_epochs or (
            limit is not None and self.progress.step >= limit
        )

    def _log_row(self) -> None:
        row: dict[str, float] = {"step": self.progress.step, "epoch": self.progress.epoch + 1}
        recent, self.progress.recent_losses = self.progress.recent_losses, {}
        losses = {name: total / count for name, (total, count) in recent.items()}
        row |= losses
        for name, part in self.parts.items():
            if hasattr(part, "param_groups"):
                row[name.replace("optimizer", "lr")] = part.param_groups[0]["lr"]
        photos, clock = self._last_row
        self._last_row = (self.progress.photos, time.monotonic())
        row["images_per_second"] = (self.progress.photos - photos) / (self._last_row[1] - clock)
        if self.log:
            self.log.append(row)
        self._bar.set_postfix({name: f"{loss:.4g}" for name, loss in losses.items()})
        self.accelerator.log(row, step=self.progress.step)

    def _after_epoch(self) -> None:
        epoch, config = self.progress.epoch, self.config
        if not self.is_main:
            return
        if epoch % config.validation_epochs == 0:
            self._save_variant()
            self._write_samples(epoch)
        if config.hub_epochs and epoch % config.hub_epochs == 0:
            self._save_variant()
            try:
                self._publish(revision=f"epoch-{epoch}")
            except ColorhubError as error:  # the Hub's troubles are no reason to stop training
                self.say(f"Epoch {epoch} was not published: {error}")

    def _write_samples(self, epoch: int) -> None:
        generator = self.generator()
        colorizer = Colorizer(generator, device=str(self.device))
        sheet = triptychs(colorizer, self.sample_photos)
        generator.train()
        save_photo(sheet, self.output / "samples" / f"epoch-{epoch:03}.png")

    def _save_variant(self) -> None:
        weights.save(self.generator(), self.output, mean_ab=self._mean_ab())
        provenance.write_json(self.output / "training.json", self._facts())

    def _facts(self) -> dict[str, Any]:
        config, progress = self.config, self.progress
        return {
            "command": provenance.command_line(self.script, self.accelerator.num_processes),
            "license": config.license,
            "init_from": config.init_from and provenance.public_words([config.init_from])[0],
            "seed": config.seed,
            "dataset": self.dataset_facts,
            "resolution": self.resolution,
            "batch_size": config.train_batch_size * self.accelerator.num_processes,
            "epochs": progress.epoch,
            "steps": progress.step,
            "photos_seen": progress.photos,
            "hours": round(self._seconds() / 3600, 2),
            "hardware": provenance.hardware(self.device),
            "mixed_precision": str(self.accelerator.mixed_precision),
            "versions": provenance.versions(),
        }

    def _measure(self) -> None:
        config = self.config
        if config.validation_split is None:
            return
        rows = open_rows(
            config.dataset_name,
            config_name=config.dataset_config_name,
            split=config.validation_split,
            image_column=config.image_column,
            streaming=config.streaming,
        )
        results = evaluate(
            Colorizer(weights.load(self.output), device=str(self.device)),
            rows,
            mean_ab=self._mean_ab(),
            max_images=config.max_validation_images,
        )
        facts = provenance.dataset_facts(config.dataset_name, config.validation_split, rows)
        provenance.write_json(
            self.output / "results.json",
            {
                "dataset": facts,
                "command": self._facts()["command"],
                "weights_sha256": weights.sha256(self.output / weights.WEIGHTS),
                **results,
            },
        )

    def _publish(self, revision: str | None = None) -> None:
        assert self.repo_id is not None
        cards.write(self.output, name=self.repo_id)
        private = self.config.hub_private_repo
        address = hub.publish(self.output, self.repo_id, revision=revision, private=private)
        self.say(f"Published: {address}" + (f", revision {revision}" if revision else ""))

    def _mean_ab(self) -> tuple[float, float]:
        a, b = self.progress.mean_ab
        return a, b

    def _seconds(self) -> float:
        return self.progress.seconds + time.monotonic() - self._clock

    # -- checkpoints -----------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        if self.is_main:
            checkpoints.save(
                self.output / "checkpoints",
                self.progress.step,
                self._state(),
                keep=self.config.checkpoints_total_limit,
            )
        self.accelerator.wait_for_everyone()

    def _state(self) -> dict[str, Any]:
        bare = {
            name: self.accelerator.unwrap_model(part) if isinstance(part, nn.Module) else part
            for name, part in self.parts.items()
        }
        state = {name: part.state_dict() for name, part in bare.items()}
        state["progress"] = asdict(replace(self.progress, seconds=self._seconds()))
        state["pinned"] = self._pinned()
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        return state

    def _pinned(self) -> dict[str, Any]:
        """What a resumed run must share with the one before, or its batches would be others."""
        return {
            "seed": self.config.seed,
            "photos a step": self.config.train_batch_size * self.accelerator.num_processes,
            "resolution": self.resolution,
        }

    def _resume(self) -> None:
        wanted = self.config.resume_from_checkpoint
        path = None
        if wanted == "latest":
            path = checkpoints.latest(self.output / "checkpoints")
            if path is None:
                self.say(f"{self.output} holds no checkpoint yet: starting from the beginning.")
        elif wanted:
            path = Path(wanted)
        if path is None:
            if checkpoints.latest(self.output / "checkpoints") is not None:
                raise OptionError(
                    f"{self.output} holds checkpoints of another run: go on with it by "
                    "--resume_from_checkpoint latest, or give another --output_dir."
                )
            if self.log:
                self.log.cut(0, every=1)
            return
        state = checkpoints.load(path)
        for name, now in self._pinned().items():
            if state["pinned"].get(name) != now:
                raise OptionError(
                    f"{path} was made with {name} = {state['pinned'].get(name)}, not {now}: "
                    "resume with the same value."
                )
        for name, part in self.parts.items():
            if isinstance(part, nn.Module):
                part = self.accelerator.unwrap_model(part)
            try:
                part.load_state_dict(state[name])
            except (KeyError, RuntimeError, ValueError) as error:
                raise OptionError(f"{path} does not fit these options ({error}).") from error
        self.progress = Progress(**state["progress"])
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.log:
            self.log.cut(self.progress.step, every=self.config.logging_steps)
        self.say(f"Resumed from {path}: step {self.progress.step}.")

    def say(self, line: str) -> None:
        """A line for whoever watches, from the main process."""
        if self.is_main:
            tqdm.write(line, file=sys.stderr)

    def total_steps(self) -> int | None:
        """Steps the whole run will take at the most; None for a stream without a limit."""
        limit = self.config.max_train_steps
        if self.config.streaming:
            return limit
        passes = len(self.photos) * self.config.num_train_epochs
        return min(limit or passes, passes)

    def schedule(self, name: str, *, every: int = 1) -> Callable[[int], float]:
        """An optimiser's step to its learning rate's factor: "constant", or "cosine" from 1 to 0.

        `every` is how many of the run's steps pass between two of the optimiser's.
        """
        if name == "constant":
            return lambda step: 1.0
        total = self.total_steps()
        if total is None:
            raise OptionError(f"--lr_scheduler {name} on a stream needs --max_train_steps.")
        return lambda step: 0.5 * (1 + math.cos(math.pi * min(step * every / max(total, 1), 1)))

    def _progress_bar(self) -> tqdm:
        return tqdm(
            total=self.total_steps(),
            initial=self.progress.step,
            unit="img",
            unit_scale=self.config.train_batch_size * self.accelerator.num_processes,
            disable=not self.is_main,
        )


def step_seed(seed: int, step: int) -> int:
    """The seed of a step's random draws: 63 bits that neighbouring steps and seeds do not share."""
    digest = hashlib.sha256(f"{seed} {step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
