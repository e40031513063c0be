"""Values that must appear nowhere, and where to look for them."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

CANARIES = {
    "AWS_ACCESS_KEY_ID": "canary1accesskey",
    "AWS_SECRET_ACCESS_KEY": "canary2secretkey",
    "AWS_SESSION_TOKEN": "canary3sessiontoken",
    "MLFLOW_TRACKING_PASSWORD": "canary4mlflow",
    "GOOGLE_APPLICATION_CREDENTIALS": "/canary5google",
    "SOME_TOKEN": "canary6token",
}
"""An environment that is full of secrets."""


def files_with(folder: Path, words: Sequence[str]) -> list[str]:
    """Every file below `folder` that holds one of the words in its content or name, in text, pickles or databases."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else b""
        found += [f"{path}: {word}" for word in words if word in path.name or word.encode() in content]
    return found
