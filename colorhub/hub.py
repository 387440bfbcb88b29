"""From a variant's name to its folder, and from a folder to the Hub.

A name is a bundled short name, a folder, or a Hub repository `owner/name[@revision]`. What is in
the local cache keeps working when the Hub does not.
"""

import os
import re
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token, hf_hub_download
from huggingface_hub import try_to_load_from_cache as cached_file
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from colorhub import strangers
from colorhub.errors import ColorhubError, HubError, NotFoundError, OptionError, VariantError
from colorhub.generators import EVERY
from colorhub.kinds import KINDS
from colorhub.weights import CONFIG, WEIGHTS, check_files, kind_of, load, sha256

CARD = "README.md"
TIMEOUT = 5.0  # seconds to wait for the Hub's first word
UPLOAD_TIMEOUT = 1800.0  # seconds for all files together
MAX_BYTES = 2**30  # of weights fetched without asking

# Beside a repository in the cache: everybody may see it. Else a visitor could, while the Hub is
# down, use what the host has fetched with a token of its own.
_PUBLIC = ".colorhub-public"

_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@(.+))?", re.ASCII)
_PAPERS = (CARD, "training.json", "training_log.csv", "results.json")

T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """Where a variant was found."""

    name: str
    folder: Path
    source: str  # "bundled", "local" or "hub"
    revision: str | None = None  # the commit, for one from the Hub


def list_variants(
    *, hub: bool = False, token: str | bool | None = None, kind: str = "photo"
) -> list[str]:
    """Names that `Colorizer.from_pretrained` takes: bundled, in COLORHUB_VARIANTS_DIR, on the Hub.

    Variants of another `kind` (video, text, noise) are for what makes pictures of these.
    With `hub` the Hub's variants follow, of the owners in COLORHUB_NAMESPACE (separated by
    commas) or of everyone; with `token=False` those that everybody sees. Raises HubError if the
    Hub does not answer within a few seconds.
    """
    names = list(local_variants(kind))
    if hub:
        listed = os.environ.get("COLORHUB_NAMESPACE", "").split(",")
        owners: list[str | None] = [name.strip() for name in listed if name.strip()]
        for owner in owners or [None]:
            try:
                found = _in_time(partial(_ids_of, owner, token, KINDS[kind].tag), TIMEOUT)
            except ColorhubError:
                raise
            except Exception as error:
                raise _hub_error("the list of variants", error) from error
            names += [name for name in found if name not in names]
    return names


def local_variants(kind: str | None = "photo") -> dict[str, Variant]:
    """Variants of one kind, or of all, that need no network, by short name."""
    package = Path(__file__).parent
    # An installed package carries the folder inside; a checkout has it beside the package.
    bundled = [package / "model_cards", package.parent / "model_cards"]
    places = [("bundled", folder) for folder in bundled]
    if extra := os.environ.get("COLORHUB_VARIANTS_DIR"):
        places.append(("local", Path(extra)))
    found: dict[str, Variant] = {}
    for source, place in places:
        for config in sorted(place.glob(f"*/{CONFIG}")):
            name = config.parent.name
            this = kind_of(config.parent)
            if this is not None and this == (kind or this):
                found.setdefault(name, Variant(name, config.parent, source))
    return found


def resolve(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    folders: bool = True,
    token: str | bool | None = None,
) -> Variant:
    """Find a variant by name, fetching it from the Hub if it is there.

    `revision` is a branch, tag or commit of a Hub repository. `folders=False` is for names that
    strangers type: they never lead to a folder of this machine, only to known short names and to
    what is public on the Hub, whatever the token, and within the limits of `strangers`. Raises
    NotFoundError, HubError if the Hub is needed but cannot be reached, VariantError if the
    repository is no variant.
    """
    name = os.fspath(name)
    if not folders:
        strangers.check_name(name, None)
    if (variant := local_variants(None).get(name)) and revision is None:
        return variant
    if folders and Path(name).is_dir() and revision is None:
        return Variant(Path(name).resolve().name, Path(name), "local")
    match = _HUB_ID.fullmatch(name)
    if match is None or ".." in name:
        others = (
            "a folder, or owner/name[@revision] on the Hub" if folders else "owner/name[@revision]"
        )
        if revision is not None:
            others = "owner/name: only Hub repositories have revisions"
        raise NotFoundError(
            f"There is no variant {name!r}: choose {', '.join(local_variants())}, or {others}."
        )
    revision = revision or match[2]
    if folders:
        return _fetch(match[1], revision, token)
    strangers.check_name(name, revision)
    fetch = partial(_fetch, match[1], revision, False, stranger=True)
    variant = _in_time(fetch, strangers.PATIENCE)
    strangers.check_folder(variant.name, variant.folder)
    return variant


def backbone(name: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Pretrained weights by name: a .safetensors file, or `owner/name[@revision]` on the Hub.

    What was fetched before serves when the Hub cannot be reached. Raises NotFoundError, HubError,
    or VariantError for a file that is no safetensors file.
    """
    name = os.fspath(name)
    path = Path(name)
    if not path.is_file():
        match = _HUB_ID.fullmatch(name)
        if match is None or ".." in name:
            raise NotFoundError(
                f"There is no backbone {name!r}: give a .safetensors file, or "
                "owner/name[@revision] on the Hub."
            )
        try:
            path = Path(hf_hub_download(match[1], WEIGHTS, revision=match[2], etag_timeout=TIMEOUT))
        except RemoteEntryNotFoundError as error:
            raise NotFoundError(f"{name} has no {WEIGHTS}: it is no backbone.") from error
        except Exception as error:
            raise _hub_error(name, error) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise VariantError(f"{path} is truncated or no safetensors file ({error}).") from error


def card(variant: Variant, *, token: str | bool | None = None) -> str | None:
    """A variant's card; that of one from the Hub is fetched. None if it has none or none is here.

    `token=False` is for variants that strangers name. Raises HubError if the Hub refuses.
    """
    path = variant.folder / CARD
    if variant.source == "hub" and not path.is_file():  # loading takes what it needs alone
        repo_id = variant.name.split("@")[0]
        try:
            options: dict[str, Any] = {"token": token, "etag_timeout": TIMEOUT}
            hf_hub_download(repo_id, CARD, revision=variant.revision, **options)
        except (RemoteEntryNotFoundError, LocalEntryNotFoundError):
            return None
        except Exception as error:
            raise _hub_error(variant.name, error) from error
    return path.read_text(encoding="utf-8") if path.is_file() else None


def tags(repo_id: str, *, token: str | bool | None = None) -> list[str]:
    """The tags of a repository. Raises HubError if the Hub does not tell them in time."""
    api = HfApi(token=token, library_name="colorhub")
    try:
        return [ref.name for ref in _in_time(partial(api.list_repo_refs, repo_id), TIMEOUT).tags]
    except ColorhubError:
        raise
    except Exception as error:
        raise _hub_error(repo_id, error, stranger=token is False) from error


def copy_papers(variant: Variant, folder: Path) -> None:
    """Copy what a variant's folder holds beside weights and configuration: card, log, figures."""
    _copy(_papers(variant.folder), variant.folder, folder)


def copy_variant(source: Path, folder: Path) -> None:
    """Copy a variant's folder without what is no part of it: checkpoints, trackers' logs."""
    _copy([source / CONFIG, source / WEIGHTS, *_papers(source)], source, folder)


def _copy(files: list[Path], source: Path, folder: Path) -> None:
    for file in files:
        target = folder / file.relative_to(source)
        if target.resolve() != file.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _papers(folder: Path) -> list[Path]:
    named = [folder / name for name in _PAPERS]
    return [*filter(Path.is_file, named), *sorted(folder.glob("samples/*.[pj][np]g"))]


def create(name: str, *, private: bool = False, token: str | bool | None = None) -> str:
    """Make sure that a repository is there and may be written to; gives its full `owner/name`.

    A name without an owner is one under the account signed in. Raises HubError if nobody is
    signed in, the account may not write there, or the Hub cannot be reached.
    """
    api = HfApi(token=token, library_name="colorhub")
    try:
        made = _in_time(partial(api.create_repo, name, private=private or None, exist_ok=True))
        return made.repo_id
    except ColorhubError:
        raise
    except Exception as error:
        raise _hub_error(name, error) from error


def publish(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    revision: str | None = None,
    private: bool = False,
    token: str | bool | None = None,
) -> str:
    """Upload a variant's folder in one commit and give the page's address.

    The repository is created if need be. `revision` names the commit with a tag, such as
    "epoch-40". Doing it again after an interruption is harmless: what is there already is not
    uploaded twice, and a tag is kept if it has the same weights. Raises VariantError if the folder
    is not whole, HubError if the Hub refuses or cannot be reached.
    """
    folder = Path(folder)
    load(folder, EVERY)  # refuses what nobody could load again
    if not (folder / CARD).is_file():
        raise VariantError(f"{folder} has no {CARD}: a variant is published with its card.")
    if constants.ENDPOINT != constants._HF_DEFAULT_ENDPOINT:
        # Other servers rarely speak Xet, and the client has no fallback from it.
        constants.HF_HUB_DISABLE_XET = True
    files = [folder / CONFIG, folder / WEIGHTS, *_papers(folder)]
    api = HfApi(token=token, library_name="colorhub")
    try:
        repo_id = create(repo_id, private=private, token=token)
        before = api.model_info(repo_id, timeout=TIMEOUT)
        if private and not before.private:
            raise OptionError(f"{repo_id} is public: make it private on its page first.")
        operations = [
            CommitOperationAdd(file.relative_to(folder).as_posix(), file) for file in files
        ]
        commit = _commit(api, repo_id, before.sha, operations, sha256(folder / WEIGHTS))
        if revision is not None:
            _tag(api, repo_id, revision, commit, sha256(folder / WEIGHTS))
    except ColorhubError:
        raise
    except Exception as error:
        raise _hub_error(repo_id, error) from error
    return f"{constants.ENDPOINT}/{repo_id}"


def _commit(api: HfApi, repo_id: str, head: str | None, operations: list[Any], weights: str) -> str:
    """One commit on top of `head`; an answer that was lost on the way is looked up."""
    try:
        upload = partial(
            api.create_commit,
            repo_id,
            operations,
            commit_message="Publish with colorhub",
            parent_commit=head,
        )
        return _in_time(upload, UPLOAD_TIMEOUT).oid
    except Exception:
        now = api.model_info(repo_id, files_metadata=True, timeout=TIMEOUT)
        if now.sha and now.sha != head and _weights_of(now) == weights:
            return now.sha
        raise


def _tag(api: HfApi, repo_id: str, tag: str, commit: str, weights: str) -> None:
    refs = _in_time(partial(api.list_repo_refs, repo_id))
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    if tag not in tags:
        _in_time(partial(api.create_tag, repo_id, tag=tag, revision=commit))
    elif tags[tag] != commit:
        there = api.model_info(repo_id, revision=tag, files_metadata=True, timeout=TIMEOUT)
        if _weights_of(there) != weights:
            raise OptionError(
                f"{repo_id} already has a revision {tag} with other weights; published revisions "
                "are not moved. Choose another name, or delete the tag on the Hub."
            )


def _weights_of(info: Any) -> str | None:
    files = {file.rfilename: file for file in info.siblings or []}
    return files[WEIGHTS].lfs.sha256 if WEIGHTS in files and files[WEIGHTS].lfs else None


def _fetch(
    repo_id: str, revision: str | None, token: str | bool | None, *, stranger: bool = False
) -> Variant:
    wanted = f"{repo_id}@{revision}" if revision else repo_id
    api = HfApi(token=token, library_name="colorhub")
    try:
        info = api.model_info(repo_id, revision=revision, files_metadata=True, timeout=TIMEOUT)
    except HFValidationError as error:
        raise NotFoundError(f"{wanted} is no name of a Hub repository.") from error
    except Exception as error:
        known = _hub_error(wanted, error, stranger=stranger)
        if isinstance(known, NotFoundError):
            raise known from error
        return _cached(repo_id, revision, known, stranger=stranger)
    _check_fetchable(wanted, info, stranger=stranger)
    try:
        # By the commit that was looked at: a branch may have moved since.
        options: dict[str, Any] = {"token": token, "etag_timeout": TIMEOUT}
        commit = info.sha or revision
        for name in (CONFIG, WEIGHTS):
            folder = Path(hf_hub_download(repo_id, name, revision=commit, **options)).parent
    except Exception as error:
        known = _hub_error(wanted, error, stranger=stranger)
        return _cached(repo_id, revision, known, stranger=stranger)
    _remember(folder, revision, public=not (info.private or info.gated))
    return Variant(wanted, folder, "hub", folder.name)


def _check_fetchable(wanted: str, info: Any, *, stranger: bool) -> None:
    """Refuse a repository before anything of it is fetched."""
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    check_files(wanted, files)
    if stranger:
        strangers.check_repository(wanted, info)
        if not isinstance(cached_file(info.id, WEIGHTS, revision=info.sha), str):
            strangers.check_room(wanted, files[WEIGHTS], Path(constants.HF_HUB_CACHE))
    if files[WEIGHTS] > MAX_BYTES:
        raise VariantError(
            f"{wanted} has {files[WEIGHTS] >> 20} MiB of weights; 1024 is the limit."
        )


def _remember(folder: Path, revision: str | None, *, public: bool) -> None:
    """Tell the cache which commit the revision is, as the client does, and who may see it."""
    repository, commit = folder.parents[1], folder.name
    with suppress(OSError):  # a cache that is only read is a cache
        if revision != commit:
            ref = repository / "refs" / (revision or constants.DEFAULT_REVISION)
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit)
        if public:
            (repository / _PUBLIC).touch()
        else:
            (repository / _PUBLIC).unlink(missing_ok=True)


def _cached(
    repo_id: str, revision: str | None, error: ColorhubError, *, stranger: bool = False
) -> Variant:
    """What an earlier session fetched; raises `error` if that is not all of it.

    A stranger gets what was public when it was fetched. Where there is no token, all was.
    """
    try:
        for name in (WEIGHTS, CONFIG):
            path = hf_hub_download(repo_id, name, revision=revision, local_files_only=True)
    except (LocalEntryNotFoundError, OSError, ValueError):
        raise error from None
    folder = Path(path).parent
    if stranger and get_token() is not None and not (folder.parents[1] / _PUBLIC).exists():
        raise error
    return Variant(f"{repo_id}@{revision}" if revision else repo_id, folder, "hub", folder.name)


def _hub_error(name: str, error: Exception, *, stranger: bool = False) -> ColorhubError:
    """The client's many exceptions as the few that a reader can act on: a stranger has no token."""
    if isinstance(error, HFValidationError):
        return OptionError(f"{name!r} is no name of a Hub repository: write owner/name.")
    if isinstance(error, GatedRepoError):
        return NotFoundError(f"{name} is gated: ask for access on its page, then sign in.")
    if isinstance(error, RevisionNotFoundError):
        return NotFoundError(f"{name}: there is no such revision on the Hub.")
    if isinstance(error, RepositoryNotFoundError) and stranger:
        return NotFoundError(f"{name}: there is no such repository on the Hub, or it is private.")
    if isinstance(error, RepositoryNotFoundError):
        return NotFoundError(
            f"{name}: there is no such repository on the Hub, or it is private. "
            "Check the name, or sign in with `hf auth login` or HF_TOKEN."
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    unknown = status in (401, 403) or type(error).__name__ == "LocalTokenNotFoundError"
    if unknown and not stranger:
        return HubError(
            f"The Hub does not let you use {name}: sign in with `hf auth login` or set HF_TOKEN "
            "to a token that may write there."
        )
    if status in (409, 412):
        return HubError(f"{name} was changed by someone else meanwhile: run the command again.")
    cause = f"answers {status}" if status else f"cannot be reached ({type(error).__name__})"
    return HubError(f"The Hub {cause}, and {name} needs it. Try again later.")


def _ids_of(owner: str | None, token: str | bool | None, tag: str) -> list[str]:
    api = HfApi(token=token)
    return sorted(model.id for model in api.list_models(author=owner, filter=tag, limit=1000))


def _in_time(call: Callable[[], T], seconds: float | None = None) -> T:
    """The call's result or error, or HubError: most of the client's calls have no time limit."""
    result: list[T | Exception] = []

    def run() -> None:
        try:
            result.append(call())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(3 * TIMEOUT if seconds is None else seconds)
    if not result:
        raise HubError("The Hub did not answer in time. Try again later.")
    if isinstance(result[0], Exception):
        raise result[0]
    return result[0]
