"""What the Hub on loopback holds: repositories with commits, branches, tags and files."""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import Any

import yaml
from starlette.exceptions import HTTPException

JSON = dict[str, Any]
Files = Mapping[str, bytes]

LARGE = (".safetensors", ".bin", ".pt", ".onnx", ".parquet", ".npy", ".zip", ".tar", ".gz")
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE)


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    files: Files
    about: JSON  # title, message, date, authors


@dataclass
class Repo:
    id: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> Files:
        """What `main` holds, by path."""
        return self.at("main").files

    def at(self, revision: str) -> Commit:
        """The commit that a branch, a tag or a hash, if need be shortened, stands for."""
        id = self.branches.get(revision) or self.tags.get(revision) or revision
        for commit in self.commits.values():
            if len(id) >= 7 and commit.id.startswith(id):
                return commit
        raise refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def commit(self, branch: str, files: Files, user: str, title: str, message: str = "") -> Commit:
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        about = {"title": title, "message": message, "date": date, "authors": [{"user": user}]}
        commit = Commit(secrets.token_hex(20), self.branches.get(branch), files, about)
        self.commits[commit.id] = commit
        self.branches[branch] = commit.id
        return commit

    def info(self, revision: str = "main", *, blobs: bool = False) -> JSON:
        """What is told of a repository; most is read off the front matter of its card."""
        commit, first = self.at(revision), next(iter(self.commits.values()))
        card = front_matter(commit.files.get("README.md", b""))
        kind: JSON = {key: card[key] for key in ("library_name", "pipeline_tag") if key in card}
        files = sorted(commit.files.items())
        return {
            **{"id": self.id, "author": self.id.split("/")[0], "sha": commit.id, **kind},
            **{"private": self.private, "gated": False, "likes": 0, "downloads": 0},
            **{"createdAt": first.about["date"], "lastModified": commit.about["date"]},
            "tags": [*kind.values(), *(card.get("tags") or [])],
            "cardData": json.loads(json.dumps(card, default=str)),  # YAML has dates, JSON has not
            "siblings": [file_info(*f) if blobs else {"rfilename": f[0]} for f in files],
        }


def is_large(path: str, sample: bytes, size: int) -> bool:
    """Whether a file is kept beside git: by its name, its zero bytes or its size."""
    return size > 0 and (path.endswith(LARGE) or b"\0" in sample[:512] or size > 10 * 2**20)


def file_info(path: str, data: bytes) -> JSON:
    """What is told of a file, in the words of a tree and of siblings; the client picks its own."""
    size, large = len(data), is_large(path, data, len(data))
    etag = hashlib.sha256(data) if large else hashlib.sha1(b"blob %d\0" % size + data)  # git's way
    oid = etag.hexdigest()
    lfs = {"lfs": {"oid": oid, "sha256": oid, "size": size, "pointerSize": 134}} if large else {}
    names = {"path": path, "rfilename": path, "oid": oid[:40], "blobId": oid[:40]}
    return {"type": "file", "size": size, "etag": oid, **names, **lfs}


def folder_tree(files: Files) -> dict[str, JSON]:
    """What is told of each folder and file, by path."""
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents} - {"."}
    empty = {"type": "directory", "oid": "0" * 40, "size": 0}
    tree = {path: {"path": path, **empty} for path in sorted(folders)}
    return tree | {path: file_info(path, data) for path, data in sorted(files.items())}


def front_matter(card: bytes) -> JSON:
    """The metadata at the head of a README.md: a YAML mapping, or refused."""
    found = re.match(r"---\s*\n(.*?\n)---\s*$", card.decode(), re.DOTALL | re.MULTILINE)
    try:
        return dict(yaml.safe_load(found[1]) or {}) if found else {}
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise refusal(400, f"The metadata of README.md cannot be read: {error}") from error


def refusal(status: int, message: str, code: str = "", headers: JSON | None = None) -> Exception:
    """An error as the client wants it: it goes by the headers first, then by the status."""
    told = {"X-Error-Message": ascii(message)[1:-1], **(headers or {})}
    return HTTPException(status, message, {"X-Error-Code": code, **told} if code else told)
