"""What can go wrong, by what the reader can do about it. Every message says what to change."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


class ColorhubError(Exception):
    """Base of every error colorhub raises on purpose."""


class PhotoError(ColorhubError):
    """A photo cannot be read or written: choose another file, or mend this one."""


class FilmError(ColorhubError):
    """A film cannot be read or written: choose another file, or mend this one."""


class VariantError(ColorhubError):
    """A variant's folder is not what it should be: its weights or its configuration are refused."""


class NotFoundError(ColorhubError):
    """No variant, repository, revision or data set has this name, or it is private."""


class HubError(ColorhubError):
    """The Hub cannot be reached or refuses: try again, sign in, or work with what is cached."""


class DataError(ColorhubError):
    """A data set cannot be used for training or measuring."""


class TrainingError(ColorhubError):
    """A training run cannot go on: resume it from its last checkpoint when the cause is mended."""


class OptionError(ColorhubError):
    """Options contradict each other or ask for what this machine does not have."""


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let an OSError name the file: that of a full disk does not say what found no room."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
