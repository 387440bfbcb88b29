"""Visitors' photos: whose files they are, decoded and made smaller once; new files for results."""

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils
from gradio.utils import get_upload_folder
from PIL import Image

from colorhub.decoding import read
from colorhub.errors import PhotoError
from colorhub.memory import Kept
from colorhub.originals import Original

_photos: Kept[Image.Image] = Kept(400 * 10**6)
_small: Kept[Image.Image] = Kept(100 * 10**6)


def refuse_addresses() -> None:
    """Let Gradio refuse an address where a file is asked for: it would fetch what lies there.

    Gradio itself refuses addresses of the inner network alone. Raises nothing; to be called before
    the app is served.
    """

    def refuse(url: str, cache_dir: str) -> str:
        raise gr.Error(
            "A photo must be sent: this app opens no address.", None, title="Not possible",
            print_exception=False,
        )  # fmt: skip

    async def refuse_later(url: str, cache_dir: str) -> str:
        return refuse(url, cache_dir)

    processing_utils.async_ssrf_protected_download = refuse_later
    processing_utils.ssrf_protected_download = processing_utils.save_url_to_cache = refuse


def received(upload: Any) -> str:
    """The path of a photo that a visitor sent; "" if none was.

    Where an event takes what the page sends as it is, Gradio does not look whether the path is
    that of an upload: a visitor could name any photo of this machine. Raises PhotoError.
    """
    path = str(upload["path"]) if upload else ""
    if path and not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise PhotoError("This photo was not sent to this app: choose it again.")
    return path


def opened(photo: str) -> Image.Image:
    """An upload as a picture. Raises PhotoError."""
    return _photos.get(photo, lambda: original_of(photo).picture(), _picture_bytes)


def _picture_bytes(picture: Image.Image) -> int:
    return picture.width * picture.height * len(picture.getbands())


def original_of(photo: str) -> Original:
    """An upload with all that its file holds. Raises PhotoError."""
    name = Path(photo).name
    if not Path(photo).is_file():
        raise PhotoError(f"{name} is no longer kept here: choose it again.")
    try:
        return read(photo)
    except PhotoError as error:  # visitors need not know where their upload is kept
        raise PhotoError(str(error).replace(photo, name)) from error


def reduced(photo: str, longest: int) -> Image.Image:
    """An upload as a picture whose long side has so many pixels at the most."""

    def reduce() -> Image.Image:
        small = opened(photo).copy()
        small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        return small

    return _small.get((photo, longest), reduce, _picture_bytes)


def new_file(name: str) -> Path:
    """A path among the uploads: what lies there is served to who knows its name, and ages."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder), name)
