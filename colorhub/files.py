"""Files, whatever they hold."""

import hashlib
from pathlib import Path


def sha256(path: Path) -> str:
    """A file's SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
