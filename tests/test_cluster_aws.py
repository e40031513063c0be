"""`ray up` with our AWS files against a local stand-in for AWS (moto): what is asked for, and what is opened."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
import yaml
from moto.server import ThreadedMotoServer
from test_cluster_files import filled

from bnnsearch.cluster.account import account_lines
from bnnsearch.cluster.files import load_cluster
from bnnsearch.cluster.launch import head_address
from bnnsearch.cluster.launcher import LauncherFile

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
REGION = "us-east-1"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One for all tests: Ray keeps its connections."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """An EC2 client of an empty account in which one may launch anything; Ray finds the same account."""
    settings = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
        "HOME": str(tmp_path),
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / ".ray/auth_token"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    requests.post(f"{server}/moto-api/reset", timeout=10)
    return boto3.client("ec2", region_name=REGION)


def our_file(ec2: Any, name: str, folder: Path) -> LauncherFile:
    """A shipped file, filled in with what the account has."""
    iam = boto3.client("iam")
    profile = iam.create_instance_profile(InstanceProfileName="bucket")["InstanceProfile"]["Arn"]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    text = filled(name).replace("xami-with-docker-and-nvidia-driver", image)
    path = folder / name
    path.write_text(re.sub(r'"arn:aws:iam::[^"]*"', f'"{profile}"', text))
    cluster = load_cluster(path)
    assert isinstance(cluster, LauncherFile)
    return cluster


def instances(ec2: Any) -> list[dict[str, Any]]:
    return [each for group in ec2.describe_instances()["Reservations"] for each in group["Instances"]]


def launched_head(ec2: Any, cluster: LauncherFile) -> str:
    """The head, as `ray up` launches it; what comes then, ssh to it, no stand-in answers, so it is ended there."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "up", "--yes", "--no-config-cache", str(cluster.path)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as up:
        while not instances(ec2) and up.poll() is None:
            time.sleep(0.5)
        up.kill()
        output, _ = up.communicate()
    (head,) = instances(ec2) or pytest.fail(output.decode()[-3000:])
    return str(head["InstanceId"])


def launched_worker(cluster: LauncherFile) -> None:
    """A worker, by what the autoscaler on the head would do."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(cluster.path.read_text()))
    validate_config(config)
    config = bootstrap_aws(config)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    tags = {"ray-node-type": "worker", "ray-node-name": "w", "ray-user-node-type": "worker"}
    provider.create_node(config["available_node_types"]["worker"]["node_config"], tags, 1)


@pytest.mark.parametrize("name", ["aws.yaml", "aws-spot.yaml"])
def test_what_is_launched_is_what_the_file_says_and_nothing_but_ssh_is_open(
    name: str, aws: Any, tmp_path: Path
) -> None:
    cluster = our_file(aws, name, tmp_path)
    first_line, *quotas = account_lines(cluster)
    assert first_line.startswith("AWS account 123456789012 as ")
    market = "spot" if name == "aws-spot.yaml" else "on demand"
    needed = 4 * (16 if name == "aws-spot.yaml" else 4)  # a g5.xlarge has four
    assert f"quota of {market} G vCPUs: not visible to these credentials; the cluster needs {needed}" in quotas
    assert head_address(cluster) is None
    first = launched_head(aws, cluster)
    launched_worker(cluster)
    head, worker = sorted(instances(aws), key=lambda node: node["InstanceId"] != first)
    assert head["InstanceType"] == "m7i.large"
    assert "InstanceLifecycle" not in head  # on demand
    assert worker["InstanceType"] == "g5.xlarge"
    assert (worker.get("InstanceLifecycle") == "spot") is (name == "aws-spot.yaml")
    for node in (head, worker):
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        (disk,) = node["BlockDeviceMappings"]
        volume = aws.describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"][0]
        assert volume["Encrypted"]
        assert disk["Ebs"]["DeleteOnTermination"]
    expect_only_ssh_open(aws, head, worker)


def expect_only_ssh_open(ec2: Any, *nodes: dict[str, Any]) -> None:
    groups = {group["GroupId"] for node in nodes for group in node["SecurityGroups"]}
    (group,) = ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    for rule in group["IpPermissions"]:
        if rule["IpRanges"] or rule.get("Ipv6Ranges"):
            assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 22, 22)
        else:
            assert {pair["GroupId"] for pair in rule["UserIdGroupPairs"]} == groups
