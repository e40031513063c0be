"""What a search on a cluster needs to know: where studies live, which interpreter runs them, where MLflow is."""

from __future__ import annotations

import re
from typing import Annotated, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, model_validator

from bnnsearch.config.base import Settings

OBJECT_STORES = ("s3", "gs", "abfs", "abfss")
SECRET_NAME = re.compile(r"(?i)(secret|passw|credential|token(?!s)|private.?key|access.?key|api.?key)")
"""Names of settings and variables that hold what nobody but their owner may read."""

WHERE_SECRETS_GO = "credentials come from the environment of the nodes or from roles"


def holds_credentials(uri: str) -> bool:
    """Whether a URI names a user with a password, or a key in its query."""
    parts = urlsplit(uri)
    return parts.password is not None or any(SECRET_NAME.search(name) for name, _ in parse_qsl(parts.query))


def _without_credentials(uri: str) -> str:
    if holds_credentials(uri):
        raise ValueError(f"a URI holds no credentials ({WHERE_SECRETS_GO}), but got {urlsplit(uri).scheme}://***")
    return uri


def _storage(place: str) -> str:
    scheme = urlsplit(place).scheme if "://" in place else ""
    if not place.startswith("/") and scheme not in OBJECT_STORES:
        allowed = ", ".join(f"{each}://" for each in OBJECT_STORES)
        raise ValueError(f"storage is a folder that every node sees or an object store, but got {place!r}; "
                         f"allowed: an absolute path, {allowed}")  # fmt: skip
    return place


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"python is an absolute path, the same on every node (a bare name finds another interpreter "
                         f"than the one meant), but got {path!r}")  # fmt: skip
    return path


def _server(uri: str) -> str:
    if not uri.startswith(("http://", "https://")):
        raise ValueError(
            f"tracking on a cluster is an MLflow server, for a file is one node's own, but got {uri!r}; "
            "allowed: http://, https://"
        )
    return uri


Uri = Annotated[str, AfterValidator(_without_credentials)]


class HourlyCost(Settings):
    """US dollars that a node costs per hour at most, by the provider's price list."""

    head: Annotated[float, Field(ge=0)]
    worker: Annotated[float, Field(ge=0)]


class ClusterSettings(Settings):
    """Settings of a search on a cluster.

    Attributes:
        storage: a folder that every node sees, or an object store; studies lie below it as NAME/DATE.
        python: absolute path of the interpreter, on every node.
        tracking: address of an MLflow server that the head reaches; None records in the study's folder only.
        environment: variables of the search and its workers, such as BNN_DATA; never credentials.
        slots: trials at once where the cluster does not say how far it grows; None is what it has at the start.
        usd_per_hour: for the bound on the cost.
    """

    storage: Annotated[Uri, AfterValidator(_storage)]
    python: Annotated[str, AfterValidator(_absolute)]
    tracking: Annotated[Uri, AfterValidator(_server)] | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    slots: Annotated[int, Field(ge=1)] | None = None
    usd_per_hour: HourlyCost | None = None

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        for name, value in self.environment.items():
            if SECRET_NAME.search(name) or holds_credentials(value):
                raise ValueError(f"environment holds no credentials ({WHERE_SECRETS_GO}), but got {name}")
        return self


def _address(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"address is that of the cluster's Jobs API, http:// or https://, but got {uri!r}")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError(
            f"the token would cross the network in the clear, but got {uri!r}; allowed: https://, or "
            "http://127.0.0.1 with the port carried through ssh (ssh -N -L 8265:127.0.0.1:8265 HEAD)"
        )
    return uri


class AddressSettings(ClusterSettings):
    """A cluster that stands already.

    Attributes:
        address: its Jobs API.
    """

    address: Annotated[Uri, AfterValidator(_address)]
