"""The observer that records a study: its epochs in the study's folder, its trials as flat runs in MLflow, its report.

One run per trial, kept across resumes, and one report run per study. Nothing here waits for MLflow: what is new goes to
a spool on disk and a background thread delivers it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront
from bnnsearch.results import StudyObserver, TrialResult, by_number, read_results
from bnnsearch.tracking.database import has_runs
from bnnsearch.tracking.describe import Describer
from bnnsearch.tracking.history import EpochLog, read_history
from bnnsearch.tracking.ids import RunIds, remember_store, study_store
from bnnsearch.tracking.live import LiveReport
from bnnsearch.tracking.spool import REPORT, Spool, Update, merged
from bnnsearch.tracking.store import Store, check_access, check_store, connect, import_mlflow, mend_store
from bnnsearch.tracking.writer import Writer

if TYPE_CHECKING:
    from bnnsearch.tracking.runs import StudyRuns

logger = logging.getLogger(__name__)

SPOOL = "mlflow-spool.jsonl"

UNSETTLED = "mlflow-unsettled"
"""A file that lies in the study's folder while MLflow may lack something: a search runs, or has died."""

CLOSE_SECONDS = 60.0
"""How long the end of a search waits for MLflow; what is undelivered then stays in the study's folder."""


class Tracker(StudyObserver):
    """A `StudyObserver` that is open while it is entered.

    Attributes:
        store: where MLflow records.
        undelivered: after leaving, how many updates MLflow has not got; `deliver_spool` sends them later.
        refused: after leaving, how many updates MLflow does not take.
        settled: after leaving, whether MLflow has all of it and no run is open.
        notice: after entering, what was wrong with the store and was mended, in one line.

    Raises:
        EnvironmentProblem: the store cannot be used; found out within five seconds.
    """

    def __init__(self, study: StudyConfig, folder: StudyFolder) -> None:
        self.store = study_store(study, folder)
        self.undelivered = self.refused = 0
        self.settled = False
        self.notice: str | None = None
        check_store(self.store)
        folder.path.mkdir(parents=True, exist_ok=True)
        self._study = study
        self._folder = folder
        self._unsettled = folder.path / UNSETTLED
        self._describe = Describer(study, folder.search_id)
        self._epochs = EpochLog(folder.epochs)
        self._last_epoch = {number: epochs[-1].epoch for number, epochs in read_history(folder.epochs).items()}
        self._last_values: dict[int, Mapping[str, float]] = {}
        self._results = by_number(read_results(folder.results))
        self._front = ParetoFront.of(list(self._results.values()), study.objectives)
        self._writer = Writer(Spool(folder.path / SPOOL), self._open_runs)
        self._report = LiveReport(folder, study, self._attach_report)

    def __enter__(self) -> Self:
        self._unsettled.touch()
        self._open_store()
        if self.store.database is None:
            check_access(self.store)
        self._writer.start()
        self._writer.put(self._describe.report_started())
        self._report.start()
        return self

    def catch_up(self) -> None:
        """Instead of entering: deliver what earlier sessions left."""
        self._open_store()
        self._writer.start()
        self._finish()

    def _open_store(self) -> None:
        """Import MLflow, here and not beside the imports that the search makes meanwhile, and mend the store."""
        import_mlflow()
        self.notice = mend_store(self.store)
        remember_store(self._folder, self.store)

    def __exit__(self, *error: object) -> None:
        self._report.close()
        self._finish()

    def _finish(self) -> None:
        self.undelivered, self.refused = self._writer.close(CLOSE_SECONDS), self._writer.refused
        if not self.undelivered:
            try:
                self._put_right(self._open_runs())
                self._unsettled.unlink(missing_ok=True)
                self.settled = True
            except Exception:  # the store went away at the last moment; the next session does it
                logger.warning("MLflow's runs could not be brought up to date", exc_info=True)

    def _put_right(self, runs: StudyRuns) -> None:
        """Deliver what the store lost; end the runs and correct the front's tags that a driver that died left."""
        on_front = {str(number) for number in self._front.numbers}
        self._restore(runs)
        for run in runs.find("attributes.status = 'RUNNING'"):
            if run == REPORT:
                runs.deliver(self._describe.report_ended())
            elif (result := self._results.get(int(run))) is not None:
                runs.deliver(self._describe.trial_ended(result, on_front=run in on_front, known={}))
            else:
                runs.deliver(self._describe.trial_interrupted(int(run)))
        for run in on_front ^ set(runs.find("tags.pareto = 'true'")):
            runs.deliver(self._describe.moved(int(run), on_front=run in on_front))

    def _restore(self, runs: StudyRuns) -> None:
        """Deliver all of the ended trials, and of the report, that the store does not have."""
        absent = {REPORT, *map(str, self._results)} - runs.stored
        for name in sorted(runs.lost):
            runs.forget_lost(name)
        history = read_history(self._folder.epochs) if absent else {}
        for result in (result for number, result in sorted(self._results.items()) if str(number) in absent):
            number, on_front = result.number, result.number in self._front.numbers
            updates = [self._describe.trial_started(number, result.config, result.params)]
            updates += [self._describe.epoch(number, each) for each in history.get(number, ())]
            updates += [self._describe.trial_ended(result, on_front=on_front, known={})]
            for update in merged(updates):
                runs.deliver(update)
        if REPORT in absent:
            files = sorted(self._folder.report.iterdir()) if self._folder.report.exists() else []
            runs.deliver(self._describe.report_started())
            runs.deliver(self._describe.progress(self._front, ended=len(self._results)))
            runs.deliver(Update(REPORT, artifacts=tuple(str(file.absolute()) for file in files)))

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        self._writer.put(self._describe.trial_started(number, config, params))

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        self._last_values[number] = metrics.values
        if metrics.epoch <= self._last_epoch.get(number, 0):
            return  # repeated from a checkpoint: recorded before
        self._last_epoch[number] = metrics.epoch
        self._epochs.append(number, metrics)
        self._writer.put(self._describe.epoch(number, metrics))

    def trial_waits(self, number: int) -> None:
        self._writer.put(self._describe.trial_waits(number))

    def trial_finished(self, result: TrialResult) -> None:
        self._results[result.number] = result
        before = self._front.numbers
        self._front = ParetoFront.of(list(self._results.values()), self._study.objectives)
        on_front = result.number in self._front.numbers
        known = self._last_values.pop(result.number, {})
        self._writer.put(self._describe.trial_ended(result, on_front=on_front, known=known))
        for number in sorted((before ^ self._front.numbers) - {result.number}):
            self._writer.put(self._describe.moved(number, on_front=number in self._front.numbers))
        self._writer.put(self._describe.progress(self._front, ended=len(self._results)))
        self._report.refresh()

    def _attach_report(self, report: Path) -> None:
        self._writer.put(Update(REPORT, artifacts=tuple(str(file.absolute()) for file in sorted(report.iterdir()))))

    def _open_runs(self) -> StudyRuns:
        from bnnsearch.tracking.runs import StudyRuns

        return StudyRuns(*connect(self.store), RunIds(self._folder, self.store))


def is_settled(folder: StudyFolder, store: Store) -> bool:
    """Whether MLflow has everything of a study, as far as the study's folder and a store's file tell."""
    if any((folder.path / name).exists() for name in (SPOOL, UNSETTLED)):
        return False
    return store.database is None or has_runs(store.database, RunIds(folder, store).values())


def deliver_spool(study: StudyConfig, folder: StudyFolder) -> Tracker:
    """Send what a search could not deliver, and end the runs of a driver that died; only while no driver runs.

    Returns:
        What it came to, in `undelivered`, `refused`, `settled` and `notice`.

    Raises:
        EnvironmentProblem: the store cannot be used.
    """
    tracker = Tracker(study, folder)
    tracker.catch_up()
    return tracker
