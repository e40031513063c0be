"""Studies in an object store (S3, by a local stand-in): what a lost node or head leaves is taken up elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer
from search_fixtures import TinyTrainer, tiny

from bnnsearch.cluster import mirror as mirror_module
from bnnsearch.cluster.mirror import Mirror
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.results import StopReason, StudyObserver, TrialResult
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.object_store import ObjectFolder, below
from bnnsearch.study.study import resume_study, run_study
from bnnsearch.study.worker import Assignment, Job, run_trial

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of an empty bucket; pyarrow and boto3 find it as they find a real one, by the environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "test",
                            "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
            environment.setenv(f"AWS_{name}", value)
        requests.post(f"http://{host}:{port}/moto-api/reset", timeout=10)
        boto3.client("s3").create_bucket(Bucket="studies")
        yield "s3://studies?region=us-east-1"
    server.stop()


CONFIG = {"optimizer": {"lr": 0.5}, "model": {"hidden": [1]}, "plan": {"epochs": 6}, "seed": 3}


def test_a_trial_goes_on_on_a_node_that_shares_no_disk(bucket: str, tmp_path: Path) -> None:
    def job(node: str) -> Job:
        return Job(TinyTrainer, tmp_path / node, checkpoint_interval=0, store=below(bucket, "trial"))

    (tmp_path / "first").mkdir()
    first = run_trial(job("first"), Assignment(7, CONFIG), own_process=False)
    epochs = [each.epoch for each in islice(first, 4) if isinstance(each, EpochMetrics)]
    first.close()
    second = run_trial(job("second"), Assignment(7, CONFIG), own_process=False)
    epochs += [each.epoch for each in islice(second, 5) if isinstance(each, EpochMetrics)]
    assert epochs == [1, 2, 3, 3, 4, 5, 6]  # what was last saved is told again


def test_a_state_that_another_node_has_dropped_is_not_taken_from_the_own_disk(bucket: str, tmp_path: Path) -> None:
    stale = tmp_path / "7.pt"
    stale.write_bytes(b"old")
    assert not ObjectFolder(below(bucket, "nothing")).fetch(stale)
    assert not stale.exists()


class Leaving(StudyObserver):
    """An observer that ends the process's part after two trials, as losing the head does."""

    def __init__(self) -> None:
        self.ended = 0

    def trial_finished(self, result: TrialResult) -> None:
        self.ended += 1
        if self.ended == 2:
            raise SystemExit


def test_a_study_goes_on_on_a_new_head(bucket: str, tmp_path: Path) -> None:
    uri = below(bucket, "study")
    lost = StudyFolder(tmp_path / "lost")
    with Mirror(uri, lost), pytest.raises(SystemExit):
        run_study(
            tiny(tmp_path), study_dir=lost.path, executor=LocalExecutor(), observers=[Leaving()],
            build_trainer=TinyTrainer,
        )  # fmt: skip
    found = StudyFolder(tmp_path / "found")
    with Mirror(uri, found) as mirror:
        outcome = resume_study(found.path, executor=LocalExecutor(), observers=[mirror], build_trainer=TinyTrainer)
    assert outcome.stopped is StopReason.FINISHED
    assert [result.number for result in outcome.results] == [0, 1, 2, 3]
    quiet = run_study(tiny(tmp_path), study_dir=tmp_path / "quiet", executor=LocalExecutor(), build_trainer=TinyTrainer)
    assert [result.metrics for result in outcome.results] == [result.metrics for result in quiet.results]
    assert ObjectFolder(mirror.checkpoints).names() == []
    assert {"study.record", "results.jsonl", "study.journal", "space.yaml"} <= set(ObjectFolder(uri).names())


def test_what_changes_is_put_without_being_asked(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "PUSH_SECONDS", 0.05)
    folder = StudyFolder(tmp_path / "study")
    store = ObjectFolder(below(bucket, "pushed"))
    with Mirror(below(bucket, "pushed"), folder) as mirror:
        folder.record.write_text("changed\n")
        while "study.record" not in store.names():
            mirror._over.wait(0.05)


def test_a_store_that_cannot_be_used_is_found_out_before_anything_trains(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="the study's storage cannot be used"):
        Mirror("s3://nobodys-bucket/study?region=us-east-1", StudyFolder(tmp_path))
    with pytest.raises(InputError, match="Unexpected query parameter in S3 URI: 'regoin'"):
        Mirror("s3://studies/study?regoin=us-east-1", StudyFolder(tmp_path))
