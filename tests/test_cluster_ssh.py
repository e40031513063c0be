"""`bnnsearch run --cluster onprem.yaml` over ssh, from an empty laptop to three hosts: up, search, status, down."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cluster_fixtures import SPACE
from ssh_hosts import SHARED, Hosts, can_make_hosts, ssh_hosts
from test_cluster_files import CLUSTERS

from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.results import TrialState

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not can_make_hosts(), reason="needs root, namespaces, sshd, rsync and iproute2"),
]


def onprem(hosts: Hosts) -> str:
    """The shipped file, filled in; the hosts have no MLflow server."""
    head, *workers = hosts.addresses
    text = (CLUSTERS / "onprem.yaml").read_text()
    answers = {
        "shared-folder": str(SHARED), "address-of-the-head": head, "address-of-a-worker": workers[0],
        "address-of-another-worker": workers[1], "ssh-user": "root",
    }  # fmt: skip
    text = re.sub(r"\n.*<your-mlflow-server>", "", text)
    return re.sub(r"<([a-z-]+)>", lambda found: answers[found[1]], text)


def test_up_search_status_and_down_over_ssh(tmp_path: Path) -> None:
    python = "/opt/bnnsearch/bin/python"
    with ssh_hosts(3, tmp_path) as hosts:
        (tmp_path / "onprem.yaml").write_text(onprem(hosts))
        (tmp_path / "space.yaml").write_text(SPACE)

        def bnnsearch(*words: str) -> str:
            done = hosts.on_laptop(python, "-m", "bnnsearch", *words)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        ran = bnnsearch("run", f"{SHARED}/space.yaml", "--cluster", f"{SHARED}/onprem.yaml", "--runs", f"{SHARED}/runs")
        assert "a head and up to 2 workers" in ran
        assert re.search(rf"the head of cluster bnnsearch-onprem \({hosts.addresses[0]}\) still runs; end it with", ran)
        (study,) = tmp_path.glob("runs/on_a_cluster/*")
        results = read_past(StudyFolder(study)).results
        assert sorted(result.number for result in results) == list(range(8))
        assert {result.state for result in results} == {TrialState.COMPLETE}
        assert (study / "report" / "report.html").exists()
        inside = f"{SHARED}/runs/on_a_cluster/{study.name}"
        assert "3 of 3 nodes are here" in bnnsearch("logs", inside)
        assert json.loads(bnnsearch("status", inside, "--json"))["job"] == "ended"
        assert hosts.on_laptop("stat", "-c", "%a", "/root/.ray/auth_token").stdout.strip() == "600"
        assert "is down" in bnnsearch("down", inside)
        assert "does not run" in bnnsearch("cluster", "status", f"{SHARED}/onprem.yaml")
