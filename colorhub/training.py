"""What every training script shares: options, batches, resume, log, samples, publishing.

A script builds its networks, hands them to `Run.prepare` and writes its update in sight:

    for _ in run.epochs():
        for step, (lightness, ab) in run.batches():
            ...
            run.report(step, generator=loss)

Every random draw of a step follows from (seed, step), and ranks draw for the joined batch, so a
resumed run goes on as if it had never stopped and N processes compute what one would. With
--gradient_accumulation_steps a step comes as several batches; optimisers and schedulers move with
the last of them, when `run.steps_now`.
"""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from colorhub import hub, ranks, weights
from colorhub.batches import Epoch, PhotoBatches, View
from colorhub.data import Rows, crop, rows_of
from colorhub.errors import DataError, OptionError, TrainingError
from colorhub.exhibit import Exhibit
from colorhub.generators import EVERY
from colorhub.launch import make_accelerator
from colorhub.layers import MeanWeights, channels_last
from colorhub.options import Options
from colorhub.reports import Reports
from colorhub.runlog import Log, Skipped, say
from colorhub.state import Progress, State, clean
from colorhub.tasks import Colouring, Task

G = TypeVar("G", bound=nn.Module)
_MEAN_AB = ("mean a", "mean b")  # of the photos, which a colouring task reports


class Run:
    """One training run: its accelerator, its data, and the furniture around the update.

    `network` is the generator's configuration; `script` is the file that was started, for the
    card; `view` makes of a photo what is trained on, of `side` pixels instead of the network's
    resolution if that is given; `task` is what the run teaches, by default colouring; `rows` are
    what it learns from, by default those that the options name.
    """

    def __init__(
        self,
        config: Options,
        *,
        network: Any,
        script: str,
        view: View = crop,
        side: int | None = None,
        task: Task | None = None,
        rows: Rows | None = None,
    ) -> None:
        self.config = config
        self.task = task or Colouring(config, network.ab_gain)
        self.resolution: int = side or network.resolution
        self.output = Path(config.output_dir)
        self.accelerator = make_accelerator(config)
        self.device = self.accelerator.device
        with self.accelerator.main_process_first():  # the first prepares the cache for the others
            self.rows = rows or rows_of(config, config.train_split)
        self.photos = PhotoBatches(
            self.rows,
            resolution=self.resolution,
            batch_size=config.train_batch_size,
            seed=config.seed,
            workers=config.dataloader_num_workers,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            view=view,
        )
        photos_a_step = config.train_batch_size * self.accelerator.num_processes
        self.photos_a_step = photos_a_step * self.accelerator.gradient_accumulation_steps
        self.state = State(
            self.output / "checkpoints",
            pinned={
                "seed": config.seed,
                "photos a step": self.photos_a_step,
                "photos in all": None if config.streaming else len(self.rows),
                "resolution": self.resolution,
            },
            learning_rate=config.learning_rate,
        )
        self.skipped = Skipped(self.output / "skipped.txt")
        self.log: Log | None = None
        self.exhibit: Exhibit | None = None
        if self.accelerator.is_main_process:
            self.log = Log(self.output / "training_log.csv")
            self.exhibit = Exhibit(
                config,
                script=script,
                task=self.task,
                resolution=self.resolution,
                accelerator=self.accelerator,
                rows=self.rows,
            )
        self._cut_short = False
        self._diverged = False
        self._reports = Reports()
        self._clock = time.monotonic()
        self._last_row = (0, self._clock)  # photos and seconds when the log's last row was made
        torch.manual_seed(config.seed)  # the networks' first weights, the same on every rank

    def start(self, generator: G) -> G:
        """Make this the run's generator, with the weights of --init_from if that was given."""
        self._generator: Any = generator
        self._ema: MeanWeights | None = None
        if self.config.init_from:
            source = weights.load(hub.resolve(self.config.init_from).folder, EVERY)
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
        ready = {}
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                part = channels_last(part)
            if part is self._generator and self.config.ema_decay is not None:
                self._ema = MeanWeights(self._generator, self.config.ema_decay).to(self.device)
            self.state.parts[name] = part  # as it is without what accelerate puts around it
            if isinstance(part, (nn.Module, torch.optim.Optimizer)):
                part = self.accelerator.prepare(part)
            ready[name] = part
        self._networks = [part for part in ready.values() if isinstance(part, nn.Module)]
        self.state.parts |= {} if self._ema is None else {"ema": self._ema}
        if self.accelerator.scaler is not None:
            self.state.parts["scaler"] = self.accelerator.scaler
        self._resume()
        return tuple(ready.values())

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return self.state.progress

    @property
    def steps_now(self) -> bool:
        """Whether this batch is the last of its step, with which optimisers move."""
        return self.accelerator.sync_gradients

    def epochs(self) -> Iterator[int]:
        """Epochs from where the run stands, counted from 1; samples and weights after each."""
        self._bar = tqdm(
            total=self.total_steps(),
            unit="img",
            unit_scale=self.photos_a_step,
            disable=not self.accelerator.is_main_process,
        )
        self._start_clock()
        if self.config.on_divergence == "rollback" and self.progress.step == 0:
            self._checkpoint()  # to have where to go back to from the beginning
        while not self._done():
            yield self.progress.epoch + 1
            if self._diverged:
                self._roll_back()
                continue
            if self._cut_short:
                return  # by --max_train_steps: the epoch may go on another time
            self.progress.epoch += 1
            self.progress.batch = 0
            self.progress.epoch_losses = {}
            self.state.place = None
            self._after_epoch()

    def batches(self) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """The epoch's remaining batches: (step from 1, what the task makes of the photos).

        Of the default task that is (lightness (N, 1, R, R), ab (N, 2, R, R)), both in [-1, 1], on
        the device. Logging and checkpoints happen between steps.
        """
        config, progress = self.config, self.progress
        epoch = Epoch(
            self.photos,
            progress.epoch,
            accumulate=self.accelerator.gradient_accumulation_steps,
            place=self.state.place,
            taken=progress.batch,
            max_bad_fraction=config.max_bad_fraction,
            skipped=self.skipped,
        )
        if epoch.replays:
            self.say(f"Finding the place: reading this epoch's {progress.batch} steps again.")
        steps = iter(epoch)
        for batches in steps:
            torch.manual_seed(ranks.step_seed(config.seed, progress.step + 1))
            for photos in batches:
                batch = self.task.batch(ranks.onto(self.device, photos))
                if progress.epoch == 0:
                    self.report(**self.task.statistics(batch))
                with self.accelerator.accumulate(*self._networks):
                    yield progress.step + 1, batch
            progress.step += 1
            progress.batch += 1
            progress.photos += self.photos_a_step
            self.state.place = epoch.place
            if self._ema is not None:
                self._ema.follow(self._generator, progress.step)
            self._bar.update()
            log_now = progress.step % config.logging_steps == 0
            checkpoint_now = progress.step % config.checkpointing_steps == 0 or self._done()
            self._reports.end_step(progress.step, self.state.networks())
            self._read_reports(wait=log_now or checkpoint_now or self.device.type == "cpu")
            if self._diverged:
                return
            if log_now:
                self._log_row()
            if checkpoint_now:
                self._checkpoint()
            if self._done():
                if not log_now:
                    sums = progress.recent_losses
                    self._log_row()
                    progress.recent_losses = sums  # a resumed run makes this row anew
                self._cut_short = next(steps, None) is not None
                break
        self._read_reports(wait=True)
        if not (self._cut_short or self._diverged):
            self._end_of_data(epoch)

    def report(self, **losses: Tensor) -> None:
        """Losses (scalars) of this batch, for the log. A non-finite one is divergence."""
        for name, loss in losses.items():
            self._reports.add(name, loss)

    def epoch_mean(self, name: str) -> float:
        """Mean of a reported loss since the epoch began, over all ranks; nan if it diverged."""
        total, count = self.progress.epoch_losses.get(name, (math.nan, 1))
        return total / count

    def generator(self) -> Any:
        """The bare generator to publish: with --ema_decay the mean of its weights over time."""
        return self._generator if self._ema is None else self._ema.module

    def finish(self) -> None:
        """Write the last checkpoint and the variant's folder, measure it, publish it if asked."""
        if self.progress.batch == 0:
            self._checkpoint()  # a run cut short has made its own, before the epoch was wound up
        self._bar.close()
        if self.exhibit:
            self._show(samples_of=self.progress.epoch + (self.progress.batch > 0))
            self.exhibit.finish(self.progress)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    # -- between steps ---------------------------------------------------------------------------

    def _read_reports(self, *, wait: bool) -> None:
        progress = self.progress
        for step, values in self._reports.read(wait=wait):
            bad = [name for name, value in values.items() if not math.isfinite(value)]
            if bad:
                return self._diverge(step, bad, values)
            losses = {name: value for name, value in values.items() if " " not in name}
            if mean := [values[name] for name in _MEAN_AB if name in values]:
                old = progress.mean_ab
                progress.mean_ab = [o + (n - o) / step for o, n in zip(old, mean, strict=True)]
            for name, value in losses.items():
                for sums in (progress.epoch_losses, progress.recent_losses):
                    total, count = sums.get(name, (0.0, 0))
                    sums[name] = [total + value, count + 1]

    def _diverge(self, step: int, bad: list[str], values: dict[str, float]) -> None:
        """Raise TrainingError, or see to it that the run goes back."""
        config, rollbacks, last = self.config, self.progress.rollbacks, self.state.latest()
        seen = {**values, **self.state.learning_rates()}
        message = (
            f"Training has diverged at step {step} (epoch {self.progress.epoch + 1}): not finite "
            f"{'is' if len(bad) == 1 else 'are'} {', '.join(bad)}. At that step, in precision "
            f"{self.accelerator.mixed_precision}: "
            + ", ".join(f"{name} {value:.4g}" for name, value in seen.items())
            + "."
        )
        if last is None:
            raise TrainingError(
                f"{message} There is no checkpoint yet: start again with a lower --learning_rate."
            )
        if config.on_divergence == "rollback" and rollbacks < config.max_rollbacks:
            self.say(f"{message} Going back to {last} with half the learning rates.")
            self._diverged = True
            return
        tried = f" The run has gone back {rollbacks} times." if rollbacks else ""
        raise TrainingError(
            f"{message}{tried} The last good checkpoint is {last}: go on from it with a lower "
            "--learning_rate, or with --on_divergence rollback."
        )

    def _roll_back(self) -> None:
        path, rollbacks = self.state.latest(), self.progress.rollbacks
        assert path is not None
        self.state.load(path)
        self.state.scale_learning_rates(0.5)
        self.progress.rollbacks = rollbacks + 1
        self._diverged = False
        self._reports.forget()
        self._bar.reset()
        self._start_clock()
        if self.log:
            self.log.cut(self.progress.step, open_row=bool(self.progress.recent_losses))
        self._checkpoint()  # a run killed now must not start from the old rates again

    def _end_of_data(self, epoch: Epoch) -> None:
        """State what the epoch did not use."""
        rows, skipped = epoch.totals()
        if self.progress.batch == 0:
            raise DataError(
                f"Not one step of {self.photos_a_step} photos could be made: of {rows} photos "
                f"{skipped} were skipped. Give more photos or a smaller --train_batch_size. "
                + self.skipped.summary()
            )
        self.progress.last_epoch = [rows, skipped, epoch.left_over]
        if skipped or epoch.left_over:
            listed = f" (listed in {self.skipped.path})" if skipped else ""
            self.say(
                f"epoch {self.progress.epoch + 1}: {rows} photos, {skipped} skipped{listed}, "
                f"{epoch.left_over} left over that fill no step"
            )

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
        row |= self.state.learning_rates()
        photos, clock = self._last_row
        self._last_row = (self.progress.photos, time.monotonic())
        row["images_per_second"] = (self.progress.photos - photos) / (self._last_row[1] - clock)
        if self.log:
            self.log.append(row)
        self._bar.set_postfix({name: f"{loss:.4g}" for name, loss in losses.items()})
        self.accelerator.log(row, step=self.progress.step)

    def _after_epoch(self) -> None:
        epoch, config = self.progress.epoch, self.config
        if self.exhibit:
            sampled = epoch % config.validation_epochs == 0
            pushed = config.hub_epochs is not None and epoch % config.hub_epochs == 0
            if sampled or pushed:
                self._show(samples_of=epoch if sampled else None)
            if pushed:
                self.exhibit.push(f"epoch {epoch}", revision=f"epoch-{epoch}")

    def _show(self, *, samples_of: int | None = None) -> None:
        assert self.exhibit is not None
        self._tick()
        self.exhibit.save(self.generator(), self.progress)
        if samples_of is not None:
            self.exhibit.sample(self.generator(), samples_of)

    def _start_clock(self) -> None:
        self._clock = time.monotonic()
        self._last_row = (self.progress.photos, self._clock)
        self._bar.update(self.progress.step - self._bar.n)

    def _tick(self) -> None:
        before, self._clock = self._clock, time.monotonic()
        self.progress.seconds += self._clock - before

    # -- checkpoints -----------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        config, step = self.config, self.progress.step
        self._tick()
        self.state.save(keep=config.checkpoints_total_limit)
        number = step // config.checkpointing_steps
        push_now = number > 0 and config.push_every and number % config.push_every == 0
        if self.exhibit and push_now and not self._done():  # what is finished is published anyway
            self._show()
            self.exhibit.push(f"step {step}")

    def _resume(self) -> None:
        wanted = self.config.resume_from_checkpoint
        path = self.state.find(wanted)
        if path is not None:
            self.state.load(path)
            self.say(f"Resumed from {path}: step {self.progress.step}.")
        elif wanted:
            self.say(f"{self.output} holds no checkpoint yet: starting from the beginning.")
        if self.log:
            clean(self.output)
            self.log.cut(self.progress.step, open_row=bool(self.progress.recent_losses))
            if path is None:
                self.skipped.path.unlink(missing_ok=True)
        ranks.total(0)  # the others may add to the list of skipped photos from here on

    def say(self, line: str) -> None:
        """A line for whoever watches, from the main process."""
        if self.accelerator.is_main_process:
            say(line)

    def total_steps(self) -> int | None:
        """Steps the whole run will take at the most; None for a stream without a limit."""
        limit = self.config.max_train_steps
        if self.config.streaming:
            return limit
        a_pass = len(self.photos) // self.accelerator.gradient_accumulation_steps
        passes = a_pass * self.config.num_train_epochs
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
