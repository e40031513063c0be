"""Cluster files: read, told apart by what they hold, and known to be safe to start before anything does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from pydantic import BaseModel

from bnnsearch.cluster.address import AddressFile
from bnnsearch.cluster.kinds import ClusterFile
from bnnsearch.cluster.kubernetes import RayJobFile
from bnnsearch.cluster.launcher import LauncherFile
from bnnsearch.cluster.refusals import common_problems, launcher_problems, rayjob_problems, script_problems
from bnnsearch.cluster.slurm import SlurmFile
from bnnsearch.config.cluster import AddressSettings, ClusterSettings
from bnnsearch.errors import InputError
from bnnsearch.files import read_regular
from bnnsearch.shipped import folder, shipped
from bnnsearch.space.check import model_problems
from bnnsearch.space.reader import MAX_BYTES, read_tree
from bnnsearch.space.tree import Mark, Problem, SpaceError, Tree

SHIPPED = Path("clusters")
STORAGE_ANNOTATION = "bnnsearch/storage"
_KINDS = (
    "an address file (address, storage, python), a file for `ray up` (cluster_name, provider), a KubeRay RayJob "
    "(kind: RayJob) or a Slurm script (#!/bin/bash and #SBATCH lines)"
)


def load_cluster(path: Path) -> ClusterFile:
    """Read and check a cluster file; one that is not there is looked for in `clusters/`.

    Raises:
        InputError: it cannot be read, is of no known kind, or is refused; one line for each problem.
    """
    path = _found(path)
    try:
        data = read_regular(path, most=MAX_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if data.startswith(b"#!"):
        return _slurm(path, data)
    if not data.strip():
        raise InputError(f"{path}: a cluster file is {_KINDS}, but it is empty")
    tree = read_tree(data, str(path))
    if "address" in tree.mapping:
        return _address(path, tree)
    if "cluster_name" in tree.mapping or "provider" in tree.mapping:
        return _launcher(path, tree)
    if "kind" in tree.mapping and tree.mapping["kind"].value == "RayJob":
        return _rayjob(path, tree, data)
    raise InputError(f"{path}: a cluster file is {_KINDS}, but it is none of these")


def _found(path: Path) -> Path:
    for candidate in (path, SHIPPED / path, Path(str(folder("clusters"))) / path):
        if candidate.is_file():
            return candidate
    known = ", ".join(each.name for each in shipped() if each.folder == "clusters")
    raise InputError(f"{path}: no such cluster file; there are: {known}")


def _address(path: Path, tree: Tree) -> AddressFile:
    _refuse([*common_problems(tree), *_settings_problems(AddressSettings, tree)])
    return AddressFile(path, AddressSettings.model_validate(tree.plain))


def _launcher(path: Path, tree: Tree) -> LauncherFile:
    problems = [*_schema_problems(tree), *launcher_problems(tree)]
    metadata = tree.mapping.get("metadata")
    ours = metadata.mapping.get("bnnsearch") if metadata else None
    if ours is None:
        mark = metadata.key if metadata else tree.mark
        problems.append(Problem(mark, "our settings stand in metadata.bnnsearch (storage, python), but it is missing"))
        raise SpaceError(problems)
    _refuse([*problems, *_settings_problems(ClusterSettings, ours)])
    return LauncherFile(path, ClusterSettings.model_validate(ours.plain), tree.plain)


def _rayjob(path: Path, tree: Tree, data: bytes) -> RayJobFile:
    problems = rayjob_problems(tree)
    metadata = tree.mapping.get("metadata")
    notes = metadata.mapping.get("annotations") if metadata else None
    storage = notes.mapping.get(STORAGE_ANNOTATION) if notes else None
    if storage is None:
        mark = metadata.key if metadata else tree.mark
        problems.append(Problem(mark, f"metadata.annotations needs {STORAGE_ANNOTATION}: where every pod sees studies"))
    _refuse(problems)
    assert storage is not None
    return RayJobFile(path, data.decode("utf-8-sig"), str(storage.value))


def _slurm(path: Path, data: bytes) -> SlurmFile:
    text = data.decode("utf-8", errors="replace")
    mark = Mark(str(path))
    problems = script_problems(Tree(text, mark, mark), text)
    if "#SBATCH" not in text:
        problems.append(Problem(mark, f"a cluster file is {_KINDS}, but this script has no #SBATCH line"))
    _refuse(problems)
    return SlurmFile(path)


def _settings_problems(model: type[BaseModel], tree: Tree) -> Iterator[Problem]:
    return (problem for _, problem in model_problems(model, tree))


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise SpaceError(problems)


def _schema_problems(tree: Tree) -> Iterator[Problem]:
    """Where the file breaks Ray's own schema."""
    from jsonschema import Draft7Validator

    schema = json.loads(resources.files("ray.autoscaler").joinpath("ray-schema.json").read_text(encoding="utf-8"))
    for error in Draft7Validator(schema).iter_errors(tree.plain):
        place = tree
        for step in error.absolute_path:
            place = place.value[step] if isinstance(place.value, tuple) else place.mapping[step]
        where = ".".join(map(str, error.absolute_path)) or "the file"
        yield Problem(place.key, f"Ray's schema: {where}: {error.message.splitlines()[0][:300]}")
