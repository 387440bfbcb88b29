"""ResNet-34 and ConvNet-34: on digits as in the thesis, or taught as a colorizer's extractor.

    accelerate launch train/classifier.py digits --data_folder data/mnist --output_dir runs/resnet34
    accelerate launch train/classifier.py digits --data_folder data/mnist --no-shortcuts \
        --output_dir runs/convnet34
    accelerate launch train/classifier.py distill --dataset_name data/photos \
        --teacher timm/mobilenetv2_100.ra_in1k --teacher_network mobilenet_v2_100 \
        --output_dir runs/extractor

`digits` writes the thesis's figures: loss and accuracy by epoch, the confusion matrix, predictions.
`distill` teaches a network that sees grey what a classifier sees in the same photo in colour: its
1000 outputs before the softmax (Hinton et al. 2015, in the limit of a high temperature). Both go on
from their last epoch when they are started again, `digits` for more of them as well.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm.auto import tqdm

from colorhub import hub, losses, weights
from colorhub.batches import Epoch, PhotoBatches
from colorhub.classifiers import ResNet34
from colorhub.color import rgb_to_lab, to_lightness
from colorhub.data import open_digits, open_rows
from colorhub.encoders import Teacher
from colorhub.errors import DataError, OptionError
from colorhub.launch import main
from colorhub.layers import channels_last
from colorhub.provenance import write_text
from colorhub.runlog import say
from colorhub.state import State


@dataclass(frozen=True)
class Digits:
    """Train on MNIST as chapter 3 of the thesis does."""

    data_folder: Path
    """Folder with MNIST's four IDX files, gzipped or not."""
    output_dir: Path = Path("runs/resnet34")
    """Folder for weights, metrics.csv and figures."""
    network: ResNet34.Config = field(default_factory=lambda: ResNet34.Config(classes=10))
    learning_rate: float = 0.01
    """Learning rate of SGD."""
    train_batch_size: int = 128
    """Digits a step."""
    num_train_epochs: int = 10
    """Passes over the digits."""
    seed: int = 1
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        _check(self)
        if self.network.classes != 10:
            raise OptionError("--classes must be 10, as many as there are digits.")


@dataclass(frozen=True)
class Distill:
    """Teach a network that sees grey what a classifier sees in colour."""

    dataset_name: str
    """Hub id or local folder of a data set with an image column."""
    teacher: str
    """The classifier: a .safetensors file of a MobileNet with its last layers, or a Hub repository
    such as timm/mobilenetv2_100.ra_in1k."""
    output_dir: Path = Path("runs/extractor")
    """Folder for weights, metrics.csv and curves.png."""
    network: ResNet34.Config = field(default_factory=lambda: ResNet34.Config(width=32))
    train_split: str = "train"
    """Split to train on."""
    validation_split: str | None = None
    """Split to measure on."""
    teacher_network: Literal["mobilenet_edgetpu_075", "mobilenet_v2_100"] = "mobilenet_edgetpu_075"
    """Which MobileNet the teacher is."""
    resolution: int = 224
    """Pixels of a crop's side, as the teacher sees it; a multiple of 32."""
    grey_size: int = 128
    """Pixels of the same crop's side, as the taught network sees it."""
    learning_rate: float = 2e-3
    """Highest learning rate of AdamW, after a tenth of the run; from there it falls to nothing."""
    train_batch_size: int = 32
    """Photos a step."""
    num_train_epochs: int = 20
    """Passes over the photos."""
    dataloader_num_workers: int = 1
    """Processes that decode photos."""
    seed: int = 0
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        _check(self)
        if self.resolution < 32 or self.resolution % 32:
            raise OptionError(f"--resolution is {self.resolution}; it must be a multiple of 32.")
        if self.grey_size < 1:
            raise OptionError(f"--grey_size is {self.grey_size}; it must be 1 or more.")
        if self.network.classes != 1000:
            raise OptionError("--classes must be 1000, as many as the teacher tells apart.")


def _check(config: Any) -> None:
    if config.train_batch_size < 1 or config.num_train_epochs < 1:
        raise OptionError("--train_batch_size and --num_train_epochs must be 1 or more.")
    if not config.learning_rate > 0:
        raise OptionError(f"--learning_rate is {config.learning_rate}; it must be above 0.")


def digits(config: Digits) -> None:
    accelerator = _accelerator(config.seed)
    network = ResNet34(config.network)
    optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate)
    loaders = []
    for split in ("train", "test"):
        pictures, labels = open_digits(config.data_folder, split)
        data = TensorDataset(pictures, labels)
        loaders.append(DataLoader(data, config.train_batch_size, shuffle=split == "train"))
    state = _state(config, network=network, optimizer=optimizer)
    network, optimizer, train, test = accelerator.prepare(network, optimizer, *loaders)

    for epoch in _epochs(config, state):
        network.train()
        sums = torch.zeros(3, device=accelerator.device)  # losses, right ones, all
        for grey, labels in tqdm(train, desc=f"epoch {epoch + 1}"):  # (N, 1, 28, 28) in [0, 1]
            logits = network(grey)
            loss = F.cross_entropy(logits.float(), labels)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            right = (logits.argmax(1) == labels).sum()
            count = right.new_tensor(len(labels))
            sums += torch.stack([loss.detach() * count, right, count])
        logits, labels = _tested(network, test)
        row = {
            "train loss": sums[0] / sums[2],
            "train accuracy": sums[1] / sums[2],
            "test loss": F.cross_entropy(logits, labels),
            "test accuracy": (logits.argmax(1) == labels).float().mean(),
        }
        _end_epoch(config, state, {name: value.item() for name, value in row.items()})

    logits, labels = _tested(network, test)
    pictures, _ = open_digits(config.data_folder, "test")
    _confusion(pictures, labels, logits.argmax(1), config.output_dir)
    _curves(config.output_dir)


def distill(config: Distill) -> None:
    accelerator = _accelerator(config.seed)
    student = channels_last(ResNet34(config.network))
    teacher = Teacher(config.teacher_network).requires_grad_(False)
    teacher.load_backbone(hub.backbone(config.teacher))
    optimizer = torch.optim.AdamW(student.parameters(), config.learning_rate, weight_decay=0.05)
    photos = _photos(config, config.train_split)
    held_out = _photos(config, config.validation_split) if config.validation_split else None
    steps = len(photos) * config.num_train_epochs
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps + 1, pct_start=0.1
    )
    state = _state(config, network=student, optimizer=optimizer, scheduler=scheduler)
    network, optimizer, teacher = accelerator.prepare(student, optimizer, channels_last(teacher))

    def lacking(rgb: Tensor) -> Tensor:
        rgb = rgb.to(accelerator.device).float() / 255
        grey = to_lightness(rgb_to_lab(rgb)[:, :1])
        grey = F.interpolate(grey, (config.grey_size,) * 2, mode="area")  # (N, 1, S, S) in [-1, 1]
        with torch.no_grad():
            wanted = teacher(2 * rgb - 1).float()
        return losses.relative_square([network(grey)], [wanted - wanted.mean(1, keepdim=True)])

    for epoch in _epochs(config, state):
        network.train()
        total = []
        for (rgb,) in tqdm(Epoch(photos, epoch), total=len(photos), desc=f"epoch {epoch + 1}"):
            loss = lacking(rgb)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            total.append(loss.item())
        row = {"train loss": _mean(total)}
        if held_out:
            network.eval()
            with torch.no_grad():
                scores = [lacking(rgb).item() for (rgb,) in Epoch(held_out, 0)]
            row["validation loss"] = _mean(scores)
        _end_epoch(config, state, row)
    _curves(config.output_dir)


def _accelerator(seed: int) -> Accelerator:
    torch.manual_seed(seed)
    accelerator = Accelerator(
        cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available())
    )
    if accelerator.num_processes > 1:
        raise OptionError("train/classifier.py runs in one process: launch it with one.")
    return accelerator


def _photos(config: Distill, split: str) -> PhotoBatches:
    """A split's photos. Raises DataError if they fill no batch."""
    photos = PhotoBatches(
        open_rows(config.dataset_name, split=split),
        resolution=config.resolution,
        batch_size=config.train_batch_size,
        seed=config.seed,
        workers=config.dataloader_num_workers,
    )
    if not len(photos):
        raise DataError(
            f"The {len(photos.rows)} photos of {split} fill no batch of "
            f"{config.train_batch_size}: give more photos or a smaller --train_batch_size."
        )
    return photos


def _mean(losses: list[float]) -> float:
    if not losses:
        raise DataError("So many photos are broken or grey that the others fill no batch.")
    return sum(losses) / len(losses)


def _state(config: Digits | Distill, **parts: Any) -> State:
    """The run's parts, as they were at the end of the last epoch of a run in the same folder."""
    pinned: dict[str, Any] = {"seed": config.seed, "batch": config.train_batch_size}
    if isinstance(config, Distill):  # whose learning rate goes by both
        pinned |= {"epochs": config.num_train_epochs, "learning rate": config.learning_rate}
    checkpoints = config.output_dir / "checkpoints"
    state = State(checkpoints, pinned=pinned, learning_rate=config.learning_rate)
    state.parts = parts
    if path := state.find("latest"):
        state.load(path)
        say(f"Resumed from {path}: {state.progress.epoch} epochs.")
    return state


def _epochs(config: Digits | Distill, state: State) -> Iterator[int]:
    while state.progress.epoch < config.num_train_epochs:
        torch.manual_seed(config.seed + state.progress.epoch)
        yield state.progress.epoch


def _end_epoch(config: Digits | Distill, state: State, row: dict[str, float]) -> None:
    """Save weights, a row of metrics.csv and a checkpoint."""
    path, epoch = config.output_dir / "metrics.csv", state.progress.epoch
    lines = path.read_text().splitlines()[: epoch + 1] if epoch else [",".join(["epoch", *row])]
    lines.append(",".join([str(epoch + 1), *(f"{value:.6g}" for value in row.values())]))
    say(", ".join(f"{name} {value:.4f}" for name, value in row.items()))
    weights.save(state.parts["network"], config.output_dir)
    write_text(path, "\n".join(lines) + "\n")
    state.progress.epoch = state.progress.step = epoch + 1
    state.save(keep=1)


@torch.no_grad()
def _tested(network: nn.Module, test: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """Logits (N, 10) and labels (N,) of all test pictures, in order, on the CPU."""
    network.eval()
    parts = [(network(grey).float(), labels) for grey, labels in test]
    logits, labels = (torch.cat(each).cpu() for each in zip(*parts, strict=True))
    return logits, labels


def _curves(folder: Path) -> None:
    """curves.png, a run's last file: loss, and accuracy of digits, of each split by epoch."""
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [name.split() for name in rows[0] if name != "epoch"]  # such as ["train", "loss"]
    kinds = list(dict.fromkeys(kind for _, kind in columns))
    figure = Figure(figsize=(4.5 * len(kinds), 3.5), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        for split in (split for split, each in columns if each == kind):
            values = [float(row[f"{split} {kind}"]) for row in rows]
            axes.plot(range(1, len(rows) + 1), values, marker="o", label=split)
        axes.set(xlabel="epoch", ylabel=kind)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(folder / "curves.png", dpi=120)


def _confusion(pictures: Tensor, labels: Tensor, answers: Tensor, folder: Path) -> None:
    """confusion.png, counts of answers by true digit, and predictions.png, wrong ones first."""
    counts = torch.bincount(10 * labels + answers, minlength=100).view(10, 10)
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts.float().add(1).log().numpy(), cmap="Blues")
    for true, row in enumerate(counts.tolist()):
        for answer, count in enumerate(row):
            color = "white" if true == answer else "black"
            axes.text(answer, true, count or "", ha="center", va="center", color=color, fontsize=8)
    axes.set(xlabel="answer", ylabel="digit", xticks=range(10), yticks=range(10))
    figure.savefig(folder / "confusion.png", dpi=120)

    order = torch.argsort((answers == labels).int(), stable=True)
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    shown = torch.cat([order[:8], order[-16:]])  # eight that were missed, if there are so many
    for axes, place in zip(figure.subplots(3, 8).flat, shown.tolist(), strict=False):
        axes.imshow(pictures[place, 0].numpy(), cmap="gray_r")
        right = answers[place] == labels[place]
        said = str(answers[place].item()) if right else f"{answers[place]}, not {labels[place]}"
        axes.set_title(said, color="black" if right else "crimson", fontsize=9)
        axes.axis("off")
    figure.savefig(folder / "predictions.png", dpi=120)


def train(config: Any) -> None:
    digits(config) if isinstance(config, Digits) else distill(config)


if __name__ == "__main__":
    main(Digits | Distill, train, go_on="start it again: it goes on from its last epoch")
