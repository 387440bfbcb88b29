"""What a run is made of and how far it is, to a checkpoint and back."""

import os
import shutil
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from colorhub import checkpoints, ranks
from colorhub.errors import ColorhubError, OptionError, TrainingError


@dataclass
class Progress:
    """How far a run is; a checkpoint holds it beside the networks."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # steps of this epoch
    photos: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    last_epoch: list[int] = field(default_factory=list)  # photos: read, skipped, left over
    mean_ab: list[float] = field(default_factory=lambda: [0.0, 0.0])
    epoch_losses: dict[str, list[float]] = field(default_factory=dict)  # name: [sum, count]
    recent_losses: dict[str, list[float]] = field(default_factory=dict)  # since the log's last row


class State:
    """Networks, optimisers, schedulers and progress of a run, kept in `folder`.

    `pinned` is what a resumed run must share with the one before, or its batches would be others.
    """

    def __init__(self, folder: Path, *, pinned: dict[str, Any], learning_rate: float) -> None:
        self.folder = folder
        self.pinned = pinned
        self.learning_rate = learning_rate
        self.parts: dict[str, Any] = {}
        self.progress = Progress()
        self.place: dict[str, Any] | None = None  # of this process in the epoch
        # Who started this process: torchrun starts it again when one of the others has died.
        launch = os.environ.get("TORCHELASTIC_RUN_ID")
        launcher = launch and f"{launch} on {socket.gethostname()} as {os.getppid()}"
        self.launchers: list[str] = [name for name in ranks.gather(launcher) if name]

    def save(self, *, keep: int | None) -> None:
        """Write a checkpoint, by the first process; to be called by all."""
        places = ranks.gather(self.place)
        if ranks.rank() == 0:
            state = {
                "parts": {name: part.state_dict() for name, part in self.parts.items()},
                "kinds": self._kinds(),
                "progress": asdict(self.progress) | {"seconds": 0.0},
                "places": places,
                "pinned": self.pinned,
                "learning_rate": self.learning_rate,
            }
            notes = {"seconds": self.progress.seconds, "launchers": self.launchers}
            checkpoints.save(self.folder, self.progress.step, state, notes=notes, keep=keep)
        ranks.total(0)  # nobody goes on before it is whole

    def latest(self) -> Path | None:
        """The newest checkpoint; to be called by all, whose disks may hold different ones."""
        newest = [path for path in ranks.gather(checkpoints.latest(self.folder)) if path]
        return max(newest, key=lambda path: checkpoints.step_of(path) or 0, default=None)

    def find(self, wanted: str | None) -> Path | None:
        """The checkpoint to go on from, which is a path or "latest"; to be called by all.

        A run that its launcher has started again goes on from its own newest, whatever it is
        told. Raises OptionError if the folder's newest checkpoint would be passed over.
        """
        newest = self.latest()
        if newest is None:
            return None if wanted in (None, "latest") else Path(wanted or "")
        if wanted == "latest" or self._started_again(newest):
            return newest
        if wanted is None:
            raise OptionError(
                f"{self.folder.parent} holds checkpoints of another run: go on with it by "
                "--resume_from_checkpoint latest, or give another --output_dir."
            )
        if Path(wanted).resolve() != newest.resolve():
            raise OptionError(
                f"{self.folder} holds {newest.name}, which {wanted} would pass over: move it "
                "away, or give another --output_dir."
            )
        return newest

    def _started_again(self, newest: Path) -> bool:
        here = checkpoints.notes(newest).get("launchers", [])
        before = {name for names in ranks.gather(here) for name in names}
        return bool(before & set(self.launchers))

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; to be called by all, of whom one must hold it.

        A checkpoint made with another learning rate goes on with this one. Raises TrainingError if
        it is damaged, OptionError if it was made with other options.
        """
        state = self._read(path)
        try:
            self._take(state, path)
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"{path} is of another release ({error!r}).") from error

    def _take(self, state: dict[str, Any], path: Path) -> None:
        for name, now in self.pinned.items():
            if state["pinned"].get(name) != now:
                raise OptionError(
                    f"{path} was made with {name} = {state['pinned'].get(name)}, not {now}: "
                    "resume with the same value."
                )
        if odd := sorted(name for name, _ in state["kinds"].items() ^ self._kinds().items()):
            names = ", ".join(dict.fromkeys(odd))
            raise OptionError(f"{path} does not fit these options ({names}).")
        for name, part in self.parts.items():
            try:
                part.load_state_dict(state["parts"][name])
            except (KeyError, RuntimeError, ValueError) as error:
                raise OptionError(f"{path} does not fit these options ({error}).") from error
            if isinstance(part, torch.optim.Optimizer):
                _lay_out(part)
        self.progress = Progress(**state["progress"])
        seconds = ranks.gather(checkpoints.notes(path).get("seconds", 0.0))
        self.progress.seconds = max(seconds)
        self.scale_learning_rates(self.learning_rate / state["learning_rate"])
        places = state["places"]
        self.place = places[ranks.rank()] if len(places) == ranks.world_size() else None

    def _kinds(self) -> dict[str, str]:
        """The parts' classes: two optimisers' states may load as each other's and then fail."""
        return {name: type(part).__name__ for name, part in self.parts.items()}

    def scale_learning_rates(self, factor: float) -> None:
        """Multiply the optimisers' rates, and those from which their schedulers reckon."""
        if factor == 1:
            return
        for part in self.parts.values():
            for group in getattr(part, "param_groups", []):
                for rate in {"lr", "initial_lr"} & group.keys():
                    group[rate] *= factor
            if hasattr(part, "base_lrs"):
                part.base_lrs = [rate * factor for rate in part.base_lrs]

    def learning_rates(self) -> dict[str, float]:
        """Each optimiser's present rate, by the name its column has in the log."""
        return {
            name.replace("optimizer", "lr"): part.param_groups[0]["lr"]
            for name, part in self.parts.items()
            if hasattr(part, "param_groups")
        }

    def networks(self) -> dict[str, nn.Module]:
        """The networks among the parts, by name."""
        return {name: part for name, part in self.parts.items() if isinstance(part, nn.Module)}

    def _read(self, path: Path) -> dict[str, Any]:
        """The checkpoint as the first process that has it on its disk reads it."""
        holders = ranks.gather(path.is_dir())
        source = holders.index(True) if True in holders else 0
        found: dict[str, Any] | ColorhubError | None = None
        if ranks.rank() == source:
            try:
                found = checkpoints.load(path)
            except TrainingError as error:
                found = error
        found = ranks.broadcast(found, source)
        if isinstance(found, ColorhubError):
            raise found
        assert found is not None
        return found


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Moments laid out as their weights are, for speed, and apart from the checkpoint's file."""
    for weight, moments in optimizer.state.items():
        for name, moment in moments.items():
            alike = moment.shape == weight.shape
            moments[name] = torch.empty_like(weight).copy_(moment) if alike else moment.clone()


def clean(folder: Path) -> None:
    """Remove what a killed run left half written in a variant's folder."""
    for place in (folder, folder / "samples", folder / "checkpoints"):
        for left_over in place.glob(".part*"):
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
