"""Options that every training script shares, named as diffusers' examples name them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from colorhub.errors import OptionError


@dataclass(frozen=True)
class Options:
    """Options of every training script; a script's Config adds its paper's own."""

    dataset_name: str | None = None
    """Hub id or local folder of a data set with an image column."""
    data_files: tuple[str, ...] = ()
    """Instead: files, globs or URLs of Parquet files, pictures, or archives of pictures."""
    dataset_config_name: str | None = None
    """Configuration of the data set, where it has several."""
    train_split: str = "train"
    """Split to train on."""
    validation_split: str | None = None
    """Split of --dataset_name to measure the result on."""
    max_validation_images: int = 500
    """Photos of the validation split to measure on."""
    image_column: str | None = None
    """Column that holds the photos; found by itself if there is only one."""
    streaming: bool = False
    """Read the data set as it comes instead of downloading it first."""
    train_batch_size: int = 16
    """Photos a step, for each process."""
    gradient_accumulation_steps: int = 1
    """Batches whose gradients make up one step."""
    num_train_epochs: int = 50
    """Passes over the data set."""
    max_train_steps: int | None = None
    """Stop after so many steps, whatever the epochs."""
    learning_rate: float = 2e-4
    """Learning rate of the optimisers."""
    ema_decay: float | None = None
    """Publish, and show in samples, a running mean of the weights with this decay a step."""
    max_bad_fraction: float = 0.05
    """Share of an epoch's photos that may be broken or grey before training stops."""
    on_divergence: Literal["stop", "rollback"] = "stop"
    """If a loss or a weight is not finite: stop, or go back to the last checkpoint with half the
    learning rate."""
    max_rollbacks: int = 3
    """How often to go back before stopping after all."""
    seed: int = 0
    """Seed of everything that is drawn."""
    output_dir: Path = Path("runs/variant")
    """Folder of the variant, with checkpoints/ beside it."""
    checkpointing_steps: int = 500
    """Steps between checkpoints."""
    checkpoints_total_limit: int | None = 2
    """Checkpoints to keep."""
    resume_from_checkpoint: str | None = None
    """A checkpoint's folder, or "latest" in --output_dir."""
    init_from: str | None = None
    """Variant whose weights the generator starts from: a name, a folder or a Hub id."""
    validation_epochs: int = 1
    """Epochs between triptychs (input, truth, output) and saved weights."""
    validation_images: tuple[Path, ...] = ()
    """Colour photos for the triptychs; by default photographs bundled with scikit-image."""
    logging_steps: int = 20
    """Steps that one row of the log averages over."""
    report_to: str = "tensorboard"
    """Tracker beside training_log.csv: one that accelerate knows, or none."""
    dataloader_num_workers: int = 1
    """Processes that decode photos, for each training process."""
    license: str | None = None
    """Licence of the weights, as the Hub writes it; by default the one the data set states."""
    push_to_hub: bool = False
    """Publish the variant on the Hub at the end."""
    hub_model_id: str | None = None
    """Repository to publish to; by default the output folder's name under your account."""
    hub_private_repo: bool = False
    """Make the repository private."""
    hub_epochs: int | None = None
    """With --push_to_hub: also publish every so many epochs, as revision epoch-N."""
    push_every: int | None = None
    """With --push_to_hub: also publish at every so many-th checkpoint."""

    def __post_init__(self) -> None:
        self._check_data()
        if (self.hub_epochs or self.push_every) and not self.push_to_hub:
            raise OptionError("--hub_epochs and --push_every publish: give --push_to_hub as well.")
        if not self.learning_rate > 0:
            raise OptionError(f"--learning_rate is {self.learning_rate}; it must be above 0.")
        if not 0 <= self.max_bad_fraction <= 1:
            raise OptionError("--max_bad_fraction is a share: from 0 to 1.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise OptionError("--ema_decay must lie between 0 and 1, such as 0.999.")
        if not 0 <= self.seed < 2**63 or self.dataloader_num_workers < 0:
            raise OptionError("--seed and --dataloader_num_workers must be 0 or more.")
        for name, value in asdict(self).items():
            counts = name.endswith(
                ("_steps", "_epochs", "_size", "_limit", "_images", "_every", "_rollbacks")
            )
            if counts and isinstance(value, int) and value < 1:
                raise OptionError(f"--{name} is {value}; it must be 1 or more.")
            if name.startswith("lambda_") and value < 0:
                raise OptionError(f"--{name} is {value}; it must be 0 or more.")

    @property
    def measured_split(self) -> str | None:
        """The split to measure the result on, if it is to be measured."""
        return self.validation_split

    def _check_data(self) -> None:
        """Refuse what is no data to train on."""
        if bool(self.dataset_name) == bool(self.data_files):
            raise OptionError("Say what to train on: either --dataset_name or --data_files.")
        if self.validation_split and not self.dataset_name:
            raise OptionError("--validation_split is a split of --dataset_name: name one.")
