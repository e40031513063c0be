"""The observer that brings a study's record to MLflow, its trials as flat runs, and writes its report.

One run per trial, kept across resumes, and one report run per study. Nothing here waits for MLflow: a background thread
reads the record and delivers what is new in it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.record import SESSION, Reader, Record
from bnnsearch.results import StudyObserver, TrialResult
from bnnsearch.tracking.database import has_runs
from bnnsearch.tracking.describe import Describer
from bnnsearch.tracking.feed import Feed
from bnnsearch.tracking.fold import RunFold
from bnnsearch.tracking.ids import EARLIER_SPOOL, Mark, RunIds, remember_store, study_store
from bnnsearch.tracking.live import LiveReport
from bnnsearch.tracking.store import Store, check_access, check_store, connect, import_mlflow, mend_store
from bnnsearch.tracking.updates import REPORT, Update, merged
from bnnsearch.tracking.writer import Writer

if TYPE_CHECKING:
    from bnnsearch.tracking.runs import StudyRuns

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 60.0
"""How long the end of a search waits for MLflow; what is undelivered then is delivered later."""


class Tracker(StudyObserver):
    """A `StudyObserver` that is open while it is entered.

    Args:
        study: its settings.
        folder: where its record is.
        record: the same, where this process holds it, to remember the store in.

    Attributes:
        store: where MLflow records.
        undelivered: after leaving, how many updates MLflow has not got; `deliver_rest` sends them later.
        refused: after leaving, how many updates MLflow does not take.
        complete: after leaving, whether MLflow has all of it and no run is open.
        notice: after entering, what was wrong with the store and was mended, in one line.

    Raises:
        EnvironmentProblem: the store cannot be used; found out within five seconds.
    """

    def __init__(self, study: StudyConfig, folder: StudyFolder, record: Record | None = None) -> None:
        self._record = record
        self.store = study_store(study, folder)
        self.undelivered = self.refused = 0
        self.complete = False
        self.notice: str | None = None
        check_store(self.store)
        folder.path.mkdir(parents=True, exist_ok=True)
        self._study = study
        self._folder = folder
        self._describe = Describer(study, folder.search_id)
        self._fold = RunFold(study, self._describe)
        self._feed = Feed(Reader(folder.record), self._fold, _delivered(folder, self.store))
        self._writer = Writer(self._feed, self._open_runs)
        self._report = LiveReport(folder, study, self._attach_report)

    def __enter__(self) -> Self:
        self._open_store()
        if self.store.database is None:
            check_access(self.store)
        self._writer.start()
        self._report.start()
        return self

    def catch_up(self) -> None:
        """Instead of entering: deliver what earlier sessions left."""
        self._open_store()
        if self._folder.report.is_dir():
            self._attach_report(self._folder.report)
        self._writer.start()
        self._finish()

    def _open_store(self) -> None:
        """Import MLflow, here and not beside the imports that the search makes meanwhile, and mend the store."""
        import_mlflow()
        self.notice = mend_store(self.store)
        remember_store(self._study, self._folder, self.store, self._record)

    def __exit__(self, *error: object) -> None:
        self._report.close()
        self._finish()

    def _finish(self) -> None:
        self.undelivered, self.refused = self._writer.close(CLOSE_SECONDS), self._writer.refused
        if not self.undelivered:
            try:
                runs = self._open_runs()
                self._put_right(runs)
                if self._feed.mark is not None:
                    runs.delivered(self._feed.mark, complete=True)
                self.complete = True
            except Exception:  # the store went away at the last moment; the next session does it
                logger.warning("MLflow's runs could not be brought up to date", exc_info=True)

    def _put_right(self, runs: StudyRuns) -> None:
        """Deliver what the store lost; end the runs and correct the front's tags that a driver that died left."""
        on_front = {str(number) for number in self._fold.front.numbers}
        self._restore(runs)
        for run in runs.find("attributes.status = 'RUNNING'"):
            if run == REPORT:
                runs.deliver(self._describe.report_ended())
            elif (result := self._fold.results.get(int(run))) is not None:
                runs.deliver(self._describe.trial_ended(result, on_front=run in on_front, known={}))
            else:
                runs.deliver(self._describe.trial_interrupted(int(run)))
        for run in on_front ^ set(runs.find("tags.pareto = 'true'")):
            runs.deliver(self._describe.moved(int(run), on_front=run in on_front))

    def _restore(self, runs: StudyRuns) -> None:
        """Deliver all of the ended trials, and of the report, that the store does not have."""
        absent = {REPORT, *map(str, self._fold.results)} - runs.stored
        for name in sorted(runs.lost):
            runs.forget_lost(name)
        history = read_past(self._folder, epochs=True).history if absent else {}
        for result in (result for number, result in sorted(self._fold.results.items()) if str(number) in absent):
            number, on_front = result.number, result.number in self._fold.front.numbers
            updates = [self._describe.trial_started(number, result.config, result.params)]
            updates += [self._describe.epoch(number, each) for each in history.get(number, ())]
            updates += [self._describe.trial_ended(result, on_front=on_front, known={})]
            for update in merged(updates):
                runs.deliver(update)
        if REPORT in absent:
            files = sorted(self._folder.report.iterdir()) if self._folder.report.exists() else []
            runs.deliver(self._describe.report_started())
            runs.deliver(self._describe.progress(self._fold.front, ended=len(self._fold.results)))
            runs.deliver(Update(REPORT, artifacts=tuple(str(file.absolute()) for file in files)))

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:  # noqa: ARG002
        self._writer.wake()

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:  # noqa: ARG002
        self._writer.wake()

    def trial_waits(self, number: int) -> None:  # noqa: ARG002
        self._writer.wake()

    def trial_finished(self, result: TrialResult) -> None:  # noqa: ARG002
        self._writer.wake()
        self._report.refresh()

    def _attach_report(self, report: Path) -> None:
        self._writer.wake(Update(REPORT, artifacts=tuple(str(file.absolute()) for file in sorted(report.iterdir()))))

    def _open_runs(self) -> StudyRuns:
        from bnnsearch.tracking.runs import StudyRuns

        return StudyRuns(*connect(self.store), RunIds(self._folder, self.store))


def _delivered(folder: StudyFolder, store: Store) -> Mark | None:
    """The last event that the store has, where it is one of this record."""
    ids, reader = RunIds(folder, store), Reader(folder.record)
    migrated = 0
    for event in reader.events():
        if event["event"] == SESSION and reader.last == 1:
            migrated = event.get("migrated", 0)
        if ids.delivered is not None and reader.last == ids.delivered.n:
            return ids.delivered if Mark.of(reader) == ids.delivered else None
        if ids.delivered is None and reader.last == migrated and ids.names() and not _earlier_rest(folder):
            return Mark.of(reader)
    return None


def _earlier_rest(folder: StudyFolder) -> bool:
    return (folder.path / EARLIER_SPOOL).exists()


def is_complete(folder: StudyFolder, store: Store) -> bool:
    """Whether MLflow has everything of a study, as far as the study's folder and a store's file tell."""
    ids, reader = RunIds(folder, store), Reader(folder.record)
    for _ in reader.events((SESSION,)):
        pass
    if not reader.last:
        return not _earlier_rest(folder)
    if not ids.complete or ids.delivered != Mark.of(reader):
        return False
    return store.database is None or has_runs(store.database, ids.values())


def deliver_rest(study: StudyConfig, folder: StudyFolder) -> Tracker:
    """Send what a search could not deliver, and end the runs of a driver that died; only while the study is held.

    Returns:
        Its outcome, in `undelivered`, `refused`, `complete` and `notice`.

    Raises:
        EnvironmentProblem: the store cannot be used.
    """
    tracker = Tracker(study, folder)
    tracker.catch_up()
    return tracker
