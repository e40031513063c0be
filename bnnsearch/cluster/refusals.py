"""Why a cluster file is refused: no token on a node, a port open to the world, a credential, a value left to fill in.

Ray without a token runs the code of whoever reaches it, so every node that a file starts must be started with one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bnnsearch.cluster.secrecy import credential_problems
from bnnsearch.space.tree import Problem, Tree, quoted

TOKEN_MODE = "RAY_AUTH_MODE=token"
_NO_TOKEN = (
    "every node is started with a token, for without one Ray runs the code of whoever reaches it; "
    f"start it with {TOKEN_MODE} ray start"
)
_START = re.compile(r"\bray(\s|')+start\b")
_OPEN_DASHBOARD = re.compile(r"--dashboard-host[= ](?!127\.0\.0\.1\b|localhost\b)(\S+)")
_UNFILLED = re.compile(r"<[a-z][a-z -]*>")
_SSH = 22


def launcher_problems(tree: Tree) -> list[Problem]:
    """What is wrong with a file for `ray up`, beyond Ray's own schema."""
    problems = [*common_problems(tree), *_open_ports(tree)]
    for stage in ("head_start_ray_commands", "worker_start_ray_commands"):
        problems += _start_problems(tree, stage)
    mounts = tree.mapping.get("file_mounts")
    if mounts is None or not any(path.endswith("/.ray/auth_token") for path in mounts.mapping):
        mark = mounts.key if mounts else tree.mark
        problems.append(
            Problem(mark, 'every node is given the token: file_mounts needs "~/.ray/auth_token": "~/.ray/auth_token"')
        )
    return problems


def rayjob_problems(tree: Tree) -> list[Problem]:
    """What is wrong with a KubeRay RayJob: KubeRay gives every node the token where `authOptions.mode` is `token`."""
    problems = common_problems(tree)
    cluster = _at(tree, "spec", "rayClusterSpec")
    if cluster is None:
        return [*problems, Problem(tree.mark, "a RayJob has spec.rayClusterSpec, but it is missing")]
    mode = _at(cluster, "authOptions", "mode")
    if mode is None or mode.value != "token":
        mark = mode.mark if mode else cluster.key
        problems.append(
            Problem(
                mark,
                "every node needs the token, for without one Ray runs the code of whoever reaches it: "
                "spec.rayClusterSpec.authOptions is {mode: token}",
            )
        )
    return problems


def script_problems(tree: Tree, text: str) -> list[Problem]:
    """What is wrong with a Slurm script."""
    problems = []
    if _START.search(text) is None and "start --head" not in text:
        problems.append(Problem(tree.mark, "the script starts Ray on its nodes (ray start --head), but does not"))
    if not re.search(rf"^\s*export\s+{TOKEN_MODE}\b", text, re.MULTILINE):
        problems.append(Problem(tree.mark, f"{_NO_TOKEN}: the script needs `export {TOKEN_MODE}`"))
    problems += [Problem(tree.mark, _dashboard(found[1])) for found in _OPEN_DASHBOARD.finditer(text)]
    return problems + list(credential_problems(tree))


def common_problems(tree: Tree) -> list[Problem]:
    """Credentials, and values left to fill in."""
    unfilled = [
        Problem(place.mark, f"fill in {found}")
        for place in tree.walk()
        if isinstance(place.value, str)
        for found in _UNFILLED.findall(place.value)
    ]
    return [*unfilled, *credential_problems(tree)]


def _start_problems(tree: Tree, stage: str) -> Iterator[Problem]:
    commands = tree.mapping.get(stage)
    if commands is None or not isinstance(commands.value, tuple):
        yield Problem(tree.mark, f"{_NO_TOKEN}; {stage} is missing, and Ray's default starts it without")
        return
    for command in commands.value:
        text = str(command.value)
        start = _START.search(text)
        if start and TOKEN_MODE not in text[: start.start()] and not _container_has_token(tree):
            yield Problem(command.mark, f"{_NO_TOKEN}, but got {quoted(text)}")
        for host in _OPEN_DASHBOARD.findall(text):
            yield Problem(command.mark, _dashboard(host))


def _dashboard(host: str) -> str:
    return f"the dashboard and the Jobs API listen on 127.0.0.1 and are reached through ssh, but got {host}"


def _container_has_token(tree: Tree) -> bool:
    options = _at(tree, "docker", "run_options")
    return options is not None and any(TOKEN_MODE in str(option) for option in options.plain)


def _open_ports(tree: Tree) -> Iterator[Problem]:
    rules = _at(tree, "provider", "security_group", "IpPermissions")
    for rule in rules.value if rules is not None and isinstance(rules.value, tuple) else ():
        allowed: dict[str, Any] = rule.plain
        opens_world = "IpRanges" in allowed or "Ipv6Ranges" in allowed or "PrefixListIds" in allowed
        if opens_world and (allowed.get("FromPort"), allowed.get("ToPort")) != (_SSH, _SSH):
            ports = f"{allowed.get('FromPort', 'all')}-{allowed.get('ToPort', 'all')}"
            yield Problem(
                rule.mark, f"no port is open to other machines than the cluster's but ssh (22), but got {ports}"
            )


def _at(tree: Tree, *path: str) -> Tree | None:
    found: Tree | None = tree
    for key in path:
        found = found.mapping.get(key) if found is not None else None
    return found
