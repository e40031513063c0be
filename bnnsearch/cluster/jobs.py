"""Searches as jobs of Ray's Jobs API, on a cluster that asks for a token."""

from __future__ import annotations

import asyncio
import logging
import shlex
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from bnnsearch.cluster.backend import JobState, Order
from bnnsearch.cluster.package import packaged
from bnnsearch.cluster.secrecy import read_token, redacted, token_path
from bnnsearch.config.cluster import ClusterSettings
from bnnsearch.errors import EnvironmentProblem

PROBE_SECONDS = 10.0
READY_TRIES = 60
STOP_SECONDS = "60"
"""How long Ray lets a stopped search save before it kills it."""

Answer = TypeVar("Answer")


class RayJobs:
    """A `Backend` at the Jobs API of a Ray cluster.

    Raises:
        EnvironmentProblem: nothing answers at `address`, it answers without a token, or not to ours.
    """

    def __init__(self, address: str, settings: ClusterSettings) -> None:
        self.address = address
        self._settings = settings
        self._token = read_token()
        self._headers = {"Authorization": f"Bearer {self._token}"}
        self._check_guarded()
        for name in ("dashboard_sdk", "job.sdk"):  # they tell of every upload
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
        self._client = self._asked(lambda: JobSubmissionClient(address, headers=dict(self._headers)))

    def _check_guarded(self) -> None:
        """Make sure that the cluster refuses strangers and knows us, before anything of ours goes there."""
        if self._status({}) == requests.codes.ok:
            raise EnvironmentProblem(
                f"{self.address}: the cluster answers without a token, so that whoever reaches it can run code on it; "
                "start every node of it with RAY_AUTH_MODE=token"
            )
        if self._token is None:
            raise EnvironmentProblem(
                f"{self.address}: the cluster asks for its token, and this machine has none; put it into "
                f"{token_path()} (chmod 600) or RAY_AUTH_TOKEN"
            )
        if (status := self._status(self._headers)) != requests.codes.ok:
            refused = status in (requests.codes.unauthorized, requests.codes.forbidden)
            reason = "the cluster refuses our token" if refused else f"the Jobs API answers with HTTP {status}"
            raise EnvironmentProblem(f"{self.address}: {reason}")

    def _status(self, headers: dict[str, str]) -> int:
        url = self.address.rstrip("/") + "/api/jobs/"
        try:
            return requests.get(url, headers=headers, timeout=PROBE_SECONDS, allow_redirects=False).status_code
        except requests.RequestException as error:
            raise EnvironmentProblem(f"{self.address}: no Ray cluster answers ({type(error).__name__})") from error

    def submit(self, order: Order) -> str:
        words = [self._settings.python, "-m", "bnnsearch.cluster.driver", order.study, *order.options]
        with packaged(order.space, order.guests) as modules:
            submit = partial(
                self._client.submit_job,
                entrypoint=f"exec {shlex.join(words)}",
                submission_id=f"bnnsearch-{uuid.uuid4().hex[:12]}",
                runtime_env={"py_modules": modules, "env_vars": self._environment()},
                metadata={"study": order.study},
            )
            return self._asked(lambda: _once_ready(submit))

    def _environment(self) -> dict[str, str]:
        tracking = {"MLFLOW_TRACKING_URI": self._settings.tracking} if self._settings.tracking else {}
        return {**self._settings.environment, **tracking, "RAY_JOB_STOP_WAIT_TIME_S": STOP_SECONDS}

    def state(self, job: str) -> JobState:
        try:
            status = self._client.get_job_status(job)
        except RuntimeError as error:
            if "404" in str(error):
                return JobState.GONE
            raise EnvironmentProblem(f"{self.address}: {self._shown(error)}") from error
        except requests.RequestException as error:
            raise EnvironmentProblem(f"{self.address}: no Ray cluster answers ({type(error).__name__})") from error
        return {JobStatus.PENDING: JobState.QUEUED, JobStatus.RUNNING: JobState.RUNNING}.get(status, JobState.ENDED)

    def output(self, job: str) -> list[str]:
        return self._asked(lambda: str(self._client.get_job_logs(job))).splitlines()

    def follow(self, job: str, hear: Callable[[str], None]) -> None:
        self._asked(lambda: asyncio.run(_lines(self._client.tail_job_logs(job), hear)))

    def stop(self, job: str) -> None:
        self._asked(lambda: self._client.stop_job(job))

    def why_ended(self, job: str) -> str:
        info: Any = self._asked(lambda: self._client.get_job_info(job))
        return self._shown(str(info.message or info.status))

    def _asked(self, question: Callable[[], Answer]) -> Answer:
        try:
            return question()
        except (RuntimeError, OSError, requests.RequestException) as error:
            raise EnvironmentProblem(f"{self.address}: {self._shown(error)}") from error

    def _shown(self, error: object) -> str:
        lines = str(error).strip().splitlines()
        return redacted(lines[0] if lines else type(error).__name__, self._token)[:300]


def _once_ready(submit: Callable[[], str]) -> str:
    """Submit, waiting for a head that has only just started: it answers some time before it takes jobs."""
    pause = threading.Event()
    for _ in range(READY_TRIES):
        try:
            return submit()
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            pause.wait(2.0)
    return submit()


async def _lines(chunks: AsyncIterator[str], hear: Callable[[str], None]) -> None:
    unfinished = ""
    async with aclosing(chunks) as open_chunks:  # type: ignore[type-var]
        async for chunk in open_chunks:
            *whole, unfinished = (unfinished + chunk).split("\n")
            for line in whole:
                hear(line)
    if unfinished:
        hear(unfinished)
