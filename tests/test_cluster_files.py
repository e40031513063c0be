"""Cluster files: ours pass Ray's own checks and ours; each way of making one unsafe is refused, with its reason."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from bnnsearch.cluster.address import AddressFile
from bnnsearch.cluster.files import load_cluster
from bnnsearch.cluster.kubernetes import RayJobFile
from bnnsearch.cluster.launcher import LauncherFile
from bnnsearch.cluster.slurm import SlurmFile
from bnnsearch.errors import InputError

CLUSTERS = Path(__file__).parent.parent / "clusters"
LAUNCHERS = ["aws.yaml", "aws-spot.yaml", "gcp.yaml", "azure.yaml", "onprem.yaml"]
FILL = {
    "shared-folder": "/mnt/shared",
    "address-of-the-head": "10.0.0.1",
    "address-of-a-worker": "10.0.0.2",
    "address-of-another-worker": "10.0.0.3",
    "your-account": "123456789012",
}


def filled(name: str) -> str:
    """A shipped file with its placeholders filled in."""
    text = (CLUSTERS / name).read_text()
    return re.sub(r"<([a-z][a-z -]*)>", lambda found: FILL.get(found[1], "x" + found[1].replace(" ", "-")), text)


def written(folder: Path, text: str, name: str = "cluster.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_filled_in_template_passes_rays_own_validation_and_ours(name: str, tmp_path: Path) -> None:
    cluster = load_cluster(written(tmp_path, filled(name)))
    assert isinstance(cluster, LauncherFile)
    config = prepare_config(copy.deepcopy(cluster.config))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


@pytest.mark.parametrize("name", [*LAUNCHERS, "kuberay-rayjob.yaml"])
def test_a_template_that_is_not_filled_in_says_where(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}:\d+:\d+: fill in <"):
        load_cluster(CLUSTERS / name)


def test_the_other_kinds_are_told_apart(tmp_path: Path) -> None:
    assert isinstance(load_cluster(CLUSTERS / "local.yaml"), AddressFile)
    assert isinstance(load_cluster(CLUSTERS / "slurm.sbatch"), SlurmFile)
    job = load_cluster(written(tmp_path, filled("kuberay-rayjob.yaml")))
    assert isinstance(job, RayJobFile)
    assert job.storage == "/mnt/bnnsearch"


def test_a_name_alone_is_looked_for_in_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CLUSTERS.parent)
    assert load_cluster(Path("local.yaml")).path == Path("clusters/local.yaml")
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such cluster file; there are: .*aws\.yaml"):
        load_cluster(Path("nowhere.yaml"))


def test_cloud_heads_are_on_demand_and_train_nothing_and_spot_workers_are_spot() -> None:
    for name in LAUNCHERS[:4]:
        types = yaml.safe_load(filled(name))["available_node_types"]
        assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
        assert "spot" not in str(types["head"]).lower()
        assert "preemptible" not in str(types["head"])
    spot = yaml.safe_load(filled("aws-spot.yaml"))["available_node_types"]["worker"]["node_config"]
    assert spot["InstanceMarketOptions"]["MarketType"] == "spot"


UNSAFE = {
    "a worker without token": (
        "- RAY_AUTH_MODE=token /opt/bnnsearch/bin/ray start --address",
        "- /opt/bnnsearch/bin/ray start --address",
        "every node is started with a token",
    ),
    "no start command at all": (
        "worker_start_ray_commands:",
        "setup_commands_:",
        "worker_start_ray_commands is missing",
    ),
    "the token switched off": ("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "every node is started with a token"),
    "no token on the nodes": ('"~/.ray/auth_token": "~/', '"~/.ray/nothing": "~/', "every node is given the token"),
    "an open dashboard": ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "listen on 127.0.0.1"),
    "an unknown key": ("upscaling_speed: 1.0", "upscaling_spead: 1.0", "upscaling_spead"),
    "a password": ("setup_commands:\n", "setup_commands:\n  - export DB_PASSWORD=hunter22\n", "a secret's value"),
    "a cloud key": ("setup_commands:\n", "setup_commands:\n  - echo AKIAIOSFODNN7EXAMPLE\n", "an AWS access key"),
    "a password in a URI": (
        "tracking: https://",
        "tracking: https://me:hunter22@",
        "holds no credentials",
    ),
    "a local database": (
        "tracking: https://xyour-mlflow-server",
        "tracking: sqlite:///mlflow.db",
        "is an MLflow server",
    ),
    "a relative interpreter": ("python: /opt/bnnsearch/bin/python", "python: python", "python is an absolute path"),
    "a relative folder": ("storage: /mnt/shared", "storage: shared", "storage is a folder that every node sees"),
    "a misspelt setting": ("storage:", "storrage:", "did you mean 'storage'"),
    "no settings": ("  bnnsearch:", "  bnnsaerch:", "our settings stand in metadata.bnnsearch"),
}


@pytest.mark.parametrize(("old", "new", "reason"), UNSAFE.values(), ids=UNSAFE)
def test_an_unsafe_launcher_file_is_refused_with_the_reason(old: str, new: str, reason: str, tmp_path: Path) -> None:
    text = filled("onprem.yaml")
    assert old in text
    with pytest.raises(InputError, match=re.escape(reason)) as refused:
        load_cluster(written(tmp_path, text.replace(old, new)))
    assert "hunter22" not in str(refused.value)
    assert all(re.match(r"\S+cluster\.yaml:\d+:\d+: ", line) for line in str(refused.value).splitlines())


def test_a_token_option_of_the_container_counts(tmp_path: Path) -> None:
    text = filled("aws.yaml").replace("RAY_AUTH_MODE=token /opt", "/opt")
    load_cluster(written(tmp_path, text))
    with pytest.raises(InputError, match="every node is started with a token"):
        load_cluster(written(tmp_path, text.replace("--env RAY_AUTH_MODE=token", "--env A=b")))


def test_an_open_port_is_refused_and_ssh_is_not(tmp_path: Path) -> None:
    world = "{{IpProtocol: tcp, FromPort: {0}, ToPort: {0}, IpRanges: [{{CidrIp: 0.0.0.0/0}}]}}"
    rule = "  security_group: {{IpPermissions: [" + world + "]}}\n"
    text = filled("aws.yaml")
    for port in (22, 8265):
        opened = text.replace("  region: us-east-1\n", "  region: us-east-1\n" + rule.format(port))
        if port == 22:
            load_cluster(written(tmp_path, opened))
        else:
            with pytest.raises(InputError, match=r"no port is open .* but ssh \(22\), but got 8265-8265"):
                load_cluster(written(tmp_path, opened))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("http://127.0.0.1:8265", "http://ray.example.org:8265", "the token would cross the network in the clear"),
        ("http://127.0.0.1:8265", "ray://127.0.0.1:10001", "address is that of the cluster's Jobs API"),
        ("http://127.0.0.1:8265", "https://me:hunter22@ray.example.org", "holds no credentials"),
        ("storage: /tmp", "environment: {AWS_SECRET_ACCESS_KEY: hunter22}\nstorage: /tmp", "holds no credentials"),
        ("storage: /tmp/bnnsearch", "storage: s3://bucket/x?secret_key=hunter22", "holds no credentials"),
    ],
)
def test_an_unsafe_address_file_is_refused_with_the_reason(old: str, new: str, reason: str, tmp_path: Path) -> None:
    text = (CLUSTERS / "local.yaml").read_text()
    assert old in text
    with pytest.raises(InputError, match=re.escape(reason)) as refused:
        load_cluster(written(tmp_path, text.replace(old, new)))
    assert "hunter22" not in str(refused.value)


def test_a_rayjob_and_a_script_without_the_token_are_refused(tmp_path: Path) -> None:
    job = filled("kuberay-rayjob.yaml").replace("authOptions: {mode: token}", "authOptions: {mode: disabled}")
    with pytest.raises(InputError, match=r"authOptions is \{mode: token\}"):
        load_cluster(written(tmp_path, job))
    script = (CLUSTERS / "slurm.sbatch").read_text().replace("export RAY_AUTH_MODE=token", "")
    with pytest.raises(InputError, match="the script needs `export RAY_AUTH_MODE=token`"):
        load_cluster(written(tmp_path, script, "slurm.sbatch"))


@pytest.mark.parametrize("text", ["", "[1, 2]", "apiVersion: v1\nkind: Pod\n", "#!/bin/bash\necho\n"])
def test_a_file_of_no_known_kind_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a cluster file is an address file"):
        load_cluster(written(tmp_path, text))
