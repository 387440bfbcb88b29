"""Pushing to the Hub beside the training, which never waits for it and never ends because of it."""

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from colorhub import hub
from colorhub.errors import ColorhubError, HubError

FIRST_WAIT = 10.0  # seconds before a push that failed is tried again; doubled each time
LONGEST_WAIT = 640.0
LAST_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # between the tries at the end of a run


class _Push:
    def __init__(self, folder: Path, what: str, revision: str | None) -> None:
        self.copy = tempfile.TemporaryDirectory(
            prefix=".part-push-", dir=folder, ignore_cleanup_errors=True
        )
        hub.copy_variant(folder, Path(self.copy.name))
        self.what, self.revision = what, revision


class Publisher:
    """Pushes snapshots of a variant's folder, one at a time, from a thread of its own.

    A push that fails is tried again, after longer and longer waits. Of snapshots without a revision
    only the newest is pushed. `say` is told what went well and what did not.
    """

    def __init__(self, repo_id: str, *, private: bool, say: Callable[[str], None]) -> None:
        self.repo_id = repo_id
        self._private = private
        self._say = say
        self._waiting: list[_Push] = []
        self._change = threading.Condition()
        self._finishing = False
        self._failure: ColorhubError | None = None
        self._thread = threading.Thread(target=self._work, name="publisher", daemon=True)
        self._thread.start()

    def push(self, folder: Path, what: str, *, revision: str | None = None) -> None:
        """Push the folder as it is now, soon; `what` names it in messages."""
        try:
            self._add(_Push(folder, what, revision))
        except OSError as error:  # no room for the copy
            self._say(f"{what} will not be published: {error}")

    def finish(self, folder: Path) -> None:
        """Push what waits and the folder's last state; raises HubError if that did not go."""
        last = _Push(folder, "the finished variant", None)
        with self._change:
            self._finishing = True
        self._add(last)
        self._thread.join()
        if self._failure is not None:
            raise type(self._failure)(
                f"The variant is whole in {folder}, but it was not published: {self._failure} "
                f"Publish it by: colorhub publish {folder} --repo_id {self.repo_id}"
            )

    def _add(self, push: _Push) -> None:
        with self._change:
            for older in self._waiting[1:]:  # the first is under way
                if older.revision is None and push.revision is None:
                    self._waiting.remove(older)
                    older.copy.cleanup()
            self._waiting.append(push)
            self._change.notify()

    def _work(self) -> None:
        wait, last_waits = FIRST_WAIT, list(LAST_WAITS)
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._finishing)
                if not self._waiting:
                    return
                push = self._waiting[0]
            self._failure = self._try(push)
            with self._change:
                if not isinstance(self._failure, HubError) or (self._finishing and not last_waits):
                    if self._failure:
                        self._say(f"{push.what} was not published: {self._failure}")
                    self._waiting.remove(push)
                    push.copy.cleanup()
                    wait = FIRST_WAIT
                elif self._finishing:
                    self._change.wait(last_waits.pop(0))
                else:
                    self._say(f"{push.what} could not be published yet, trying on: {self._failure}")
                    self._change.wait_for(lambda: self._finishing, wait)
                    wait = min(2 * wait, LONGEST_WAIT)

    def _try(self, push: _Push) -> ColorhubError | None:
        try:
            address = hub.publish(
                push.copy.name, self.repo_id, revision=push.revision, private=self._private
            )
        except ColorhubError as error:
            return error
        except Exception as error:  # nothing that happens here may end the training
            return ColorhubError(f"{type(error).__name__}: {error}")
        self._say(f"Published {push.what}: {address}")
        return None
