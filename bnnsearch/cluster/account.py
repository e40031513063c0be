"""Whose account a cluster will be started in, and whether its quotas allow that: looked up before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bnnsearch.errors import EnvironmentProblem

if TYPE_CHECKING:
    from bnnsearch.cluster.launcher import LauncherFile

_VCPU_QUOTAS = {
    ("standard", "on demand"): "L-1216C47A",
    ("standard", "spot"): "L-34B43A08",
    ("G", "on demand"): "L-DB2E81BA",
    ("G", "spot"): "L-3819A6DF",
    ("P", "on demand"): "L-417A185B",
    ("P", "spot"): "L-7212CCBC",
}
"""AWS's codes of the quotas on running vCPUs, by family of instances and market."""


def account_lines(cluster: LauncherFile) -> list[str]:
    """What the provider says about our account.

    Raises:
        EnvironmentProblem: its library is missing, it does not know us, or a quota is too small for the whole cluster.
    """
    provider = cluster.config["provider"]["type"]
    look = {"aws": _aws_lines, "gcp": _google_lines, "azure": _azure_lines}.get(provider)
    try:
        return [] if look is None else list(look(cluster))
    except ImportError as error:
        raise EnvironmentProblem(f"{error.name} is missing: pip install 'bnnsearch[{provider}]'") from error
    except EnvironmentProblem:
        raise
    except Exception as error:  # each provider's own kinds, from libraries that may not be there
        raise EnvironmentProblem(f"{provider} does not accept the credentials of this machine: {error}") from error


def _google_lines(_: LauncherFile) -> Iterator[str]:
    import google.auth

    yield f"Google Cloud project {google.auth.default()[1]}"


def _azure_lines(_: LauncherFile) -> Iterator[str]:
    from azure.identity import DefaultAzureCredential

    DefaultAzureCredential().get_token("https://management.azure.com/.default")
    yield "Azure: signed in"


def _aws_lines(cluster: LauncherFile) -> Iterator[str]:
    import boto3

    region = cluster.config["provider"]["region"]
    account = boto3.client("sts", region_name=region).get_caller_identity()
    yield f"AWS account {account['Account']} as {account['Arn'].rpartition('/')[2]}, region {region}"
    quotas = boto3.client("service-quotas", region_name=region)
    for (family, market), wanted in _vcpus(cluster, region).items():
        allowed = _quota(quotas, _VCPU_QUOTAS[family, market])
        if allowed is None:
            yield f"quota of {market} {family} vCPUs: not visible to these credentials; the cluster needs {wanted}"
        elif allowed < wanted:
            raise EnvironmentProblem(
                f"the quota of {market} {family} vCPUs in {region} must be at least {wanted} for all workers, but is "
                f"{allowed:g}; ask AWS for more ({_VCPU_QUOTAS[family, market]}), or lower max_workers"
            )
        else:
            yield f"quota of {market} {family} vCPUs: {allowed:g}; the cluster needs {wanted}"


def _quota(quotas: Any, code: str) -> float | None:
    from botocore.exceptions import ClientError

    try:
        return float(quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"])
    except ClientError:
        return None


def _vcpus(cluster: LauncherFile, region: str) -> dict[tuple[str, str], int]:
    """Virtual CPUs of the cluster at its largest, by family and market."""
    import boto3

    config = cluster.config
    types = {name: node["node_config"] for name, node in config["available_node_types"].items()}
    found = boto3.client("ec2", region_name=region).describe_instance_types(
        InstanceTypes=sorted({node["InstanceType"] for node in types.values()})
    )
    size = {each["InstanceType"]: each["VCpuInfo"]["DefaultVCpus"] for each in found["InstanceTypes"]}
    total = int(config.get("max_workers", 2))
    wanted: dict[tuple[str, str], int] = {}
    for name, node in types.items():
        head = name == config["head_node_type"]
        count = 1 if head else min(total, int(config["available_node_types"][name].get("max_workers", total)))
        key = _family(node["InstanceType"]), "spot" if "InstanceMarketOptions" in node else "on demand"
        wanted[key] = wanted.get(key, 0) + count * size[node["InstanceType"]]
    return {key: count for key, count in wanted.items() if key in _VCPU_QUOTAS}


def _family(instance_type: str) -> str:
    letter = instance_type[0].upper()
    return letter if letter in "GP" else "standard"
