"""Secrets of a cluster: found in files where they do not belong, hidden in what is shown; and the token kept."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from bnnsearch.config.cluster import SECRET_NAME, WHERE_SECRETS_GO
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.space.tree import Problem, Tree

_SHAPES = {
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a password in a URI": re.compile(r"\w+://[^/\s:@]+:[^/\s@]+@"),
    "a secret's value": re.compile(
        r"(?i)\b\w*(secret|passw(or)?d|token|access_key|api_key)\w*\s*=\s*(?![$/~]|token\b)[^\s;&'\"$]{4,}"
    ),
}
_REFERENCE = re.compile(r"(/|~|\$)|.*(path|file|name|mode|options?)$", re.IGNORECASE)


def credential_problems(tree: Tree) -> Iterator[Problem]:
    """Every place in a cluster file that holds what looks like a credential; its value is not repeated."""
    for place in tree.walk():
        if isinstance(place.value, str):
            for kind, shape in _SHAPES.items():
                if shape.search(place.value):
                    yield Problem(
                        place.mark, f"a cluster file holds no credentials ({WHERE_SECRETS_GO}), but got {kind}"
                    )
        for key, child in place.mapping.items():
            literal = isinstance(child.value, str) and not _REFERENCE.match(child.value)
            if literal and SECRET_NAME.search(key) and not _REFERENCE.match(key):
                yield Problem(
                    child.key, f"a cluster file holds no credentials ({WHERE_SECRETS_GO}), but got a value for {key}"
                )


def redacted(text: str, token: str | None = None) -> str:
    """The text without the token and without what has the shape of a credential."""
    if token:
        text = text.replace(token, "***")
    for shape in _SHAPES.values():
        text = shape.sub("***", text)
    return text


def token_path() -> Path:
    """Where Ray looks for the cluster's token on this machine."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()


def read_token() -> str | None:
    """The token that this machine shows to clusters, from where Ray takes it; None where there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    path = token_path()
    return (path.read_text(encoding="utf-8").strip() or None) if path.is_file() else None


def make_token() -> str:
    """The token of this machine, made where there is none; its file is its owner's alone.

    Raises:
        EnvironmentProblem: the file belongs to someone else.
    """
    token = read_token()
    path = token_path()
    if token is None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        token = secrets.token_hex(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(token)
    if path.is_file() and path.stat().st_mode & 0o077:  # Ray itself writes it for all to read
        try:
            path.chmod(0o600)
        except OSError as error:
            raise EnvironmentProblem(
                f"{path}: others may read the token, and it cannot be changed ({error})"
            ) from error
    return token
