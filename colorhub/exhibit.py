"""The variant's folder that a run fills: weights, facts, samples, figures, card; and the Hub."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator

from colorhub import cards, hub, provenance, weights
from colorhub.data import Rows, is_plain_folder
from colorhub.errors import OptionError
from colorhub.options import Options
from colorhub.photos import save_photo
from colorhub.publisher import Publisher
from colorhub.runlog import say
from colorhub.state import Progress
from colorhub.tasks import Task


class Exhibit:
    """What the first process shows of a run in `config.output_dir`, and publishes if asked to.

    Raises OptionError or HubError at once for what could not be shown or published later.
    """

    def __init__(
        self,
        config: Options,
        *,
        script: str,
        task: Task,
        resolution: int,
        accelerator: Accelerator,
        rows: Rows,
    ) -> None:
        self.config = config
        self.resolution = resolution
        self.script = Path(script).name
        self.accelerator = accelerator
        self.folder = Path(config.output_dir)
        self.task = task
        self.dataset = provenance.dataset_facts(
            config.dataset_name, config.train_split, rows, data_files=config.data_files
        )
        if config.validation_split and is_plain_folder(config.dataset_name):
            raise OptionError(
                f"{config.dataset_name} has no splits: put the photos to measure on into a folder "
                f"{config.validation_split}/ in it, the others into {config.train_split}/."
            )
        self.publisher: Publisher | None = None
        self.name: str | None = None
        if config.push_to_hub:  # better to fail now than after days
            name = config.hub_model_id or self.folder.resolve().name
            self.name = hub.create(name, private=config.hub_private_repo)
            self.publisher = Publisher(self.name, private=config.hub_private_repo, say=say)

    def save(self, generator: Any, progress: Progress) -> None:
        """Write weights, configuration and facts."""
        a, b = progress.mean_ab
        weights.save(generator, self.folder, mean_ab=(a, b) if (a or b) else None)
        provenance.write_json(self.folder / "training.json", self._facts(progress))

    def sample(self, generator: Any, epoch: int) -> None:
        """Write the samples of an epoch."""
        sheet = self.task.samples(generator, str(self.accelerator.device))
        generator.train()
        save_photo(sheet, self.folder / "samples" / f"epoch-{epoch:03}.png")

    def push(self, what: str, *, revision: str | None = None) -> None:
        """Publish the folder as it is, in the background; nothing without --push_to_hub."""
        if self.publisher:
            cards.write(self.folder, name=self.name)
            self.publisher.push(self.folder, what, revision=revision)

    def finish(self, progress: Progress) -> None:
        """Measure the saved variant, write its card, publish it. Raises HubError."""
        if self.config.measured_split is not None:
            self._measure()
        cards.write(self.folder, name=self.name)
        say(f"The variant is in {self.folder}.")
        if self.publisher:
            self.publisher.finish(self.folder)

    def _facts(self, progress: Progress) -> dict[str, Any]:
        config, accelerator = self.config, self.accelerator
        return {
            "command": self._command(),
            "license": config.license,
            "init_from": config.init_from and provenance.public_words([config.init_from])[0],
            "seed": config.seed,
            "dataset": self.dataset,
            "resolution": self.resolution,
            "batch_size": config.train_batch_size
            * accelerator.num_processes
            * accelerator.gradient_accumulation_steps,
            "ema_decay": config.ema_decay,
            "epochs": progress.epoch,
            "steps": progress.step,
            "photos_seen": progress.photos,
            "last_epoch": progress.last_epoch,
            "rollbacks": progress.rollbacks,
            "hours": round(progress.seconds / 3600, 2),
            "hardware": provenance.hardware(accelerator.device),
            "mixed_precision": str(accelerator.mixed_precision),
            "versions": provenance.versions(),
        }

    def _measure(self) -> None:
        config = self.config
        split = config.measured_split or ""
        facts, results = self.task.measure(self.folder, split, str(self.accelerator.device))
        provenance.write_json(
            self.folder / "results.json",
            {
                "dataset": facts,
                "command": self._command(),
                "weights_sha256": weights.sha256(self.folder / weights.WEIGHTS),
                **results,
            },
        )

    def _command(self) -> str:
        return provenance.command_line(self.script, self.accelerator.num_processes)
