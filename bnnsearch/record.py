"""The record of a study: one file to which its events are appended, from which everything else can be made again.

A line is `N LENGTH CHECKSUM JSON`: the event's number, counted from 1, the JSON's length in bytes, the CRC-32 of number
and JSON in eight hexadecimal digits, and the event itself. So a line is whole or it is no event, and one that is lost
or doubled is noticed by its number. An event is one `write`, so that a driver that is killed leaves at most a last line
without its end, which is cut off by the next. A line that is damaged in any other way is left out and stays
where it is: what the others say still holds.

The file is locked by the process that appends to it; anyone may read meanwhile. What is written outlives the process;
a loss of power too takes no event before the last `sync`.

Events: `session` (a driver took up the study: format, space, versions), `queued`, `asked`, `restarted`, `costs`,
`epoch`, `rung`, `promoted`, `paused`, `ended`, `stopped`; the ledger says what each of them means.
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
import time
import zlib
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from bnnsearch import __version__
from bnnsearch.errors import EnvironmentProblem, StudyInUse
from bnnsearch.files import check_regular, lock, open_regular
from bnnsearch.folder import StudyFolder

FORMAT = 1
"""Version of the events; a record of a later one is refused."""

LONGEST = 2**26
"""Bytes of a line, which no event comes near."""

SESSION = "session"

COPY_OF = "copy_of"
"""What a session tells of a study that was copied: the identity of the other."""

Event = dict[str, Any]

_BEGINNING = re.compile(rb"\d{1,18}( (\d{1,18}( ([0-9a-f]{0,7}|[0-9a-f]{8}( (\{.*)?)?))?)?)?", re.DOTALL)
"""What a line may begin with, however short it was cut."""


def encoded(n: int, body: bytes) -> bytes:
    """The line of event `n`."""
    number = b"%d " % n
    return b"%s%d %08x %s\n" % (number, len(body), zlib.crc32(body, zlib.crc32(number)), body)


def decoded(line: bytes) -> tuple[int, bytes] | None:
    """Number and JSON of a line with its end; None where it is not exactly as it was written."""
    parts = line.rstrip(b"\n").split(b" ", 3)
    if len(parts) != 4 or not parts[0].isdigit() or len(parts[0]) > 18:
        return None
    n, body = int(parts[0]), parts[3]
    return (n, body) if encoded(n, body) == line else None


class Reader:
    """Reads the whole events of a record from its beginning, and what comes later when asked again.

    Attributes:
        last: number of the last event read, 0 before the first.
        line: the last event's line, to tell another record's event of the same number from it.
        lines: complete lines, and `end`: their bytes.
        damaged: lines that are damaged or before which events are missing, from 1, those of `known` included; a last
            one without its end is none, if it may be what is being written.
        known: those of them that a session found and told.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines = 0
        self.last = 0
        self.line = b""
        self.end = 0
        self.damaged: set[int] = set()
        self.known: set[int] = set()

    def events(self, kinds: Collection[str] = ()) -> Iterator[Event]:
        """Events not read before; where `kinds` are given, of these alone, which saves reading the others' JSON.

        Raises:
            EnvironmentProblem: the file cannot be read, or a later version of bnnsearch wrote it.
        """
        wanted = tuple(b'{"event": "%s"' % kind.encode() for kind in {*kinds, SESSION}) if kinds else (b"",)
        try:
            with open_regular(self._path) as file:
                file.seek(self.end)
                while line := file.readline(LONGEST):
                    if len(line) == LONGEST:  # such as the hole of a sparse file, which no memory may hold
                        raise EnvironmentProblem(
                            f"{self._path}: line {self.lines + 1} is longer than {LONGEST} bytes, which no event is"
                        )
                    if not line.endswith(b"\n"):
                        if not _BEGINNING.fullmatch(line):
                            self.damaged.add(self.lines + 1)
                        return
                    if (body := self._checked(line)) is not None and body.startswith(wanted):
                        yield self._event(body)
        except FileNotFoundError:
            return
        except OSError as error:
            raise EnvironmentProblem(f"{self._path}: the study's record cannot be read: {error.strerror}") from error

    def _checked(self, line: bytes) -> bytes | None:
        self.lines += 1
        self.end += len(line)
        found = decoded(line)
        if found is None or found[0] <= self.last:
            self.damaged.add(self.lines)
            return None
        n, body = found
        if n != self.last + 1 and self.lines - 1 not in self.damaged:
            self.damaged.add(self.lines)
        self.last, self.line = n, line
        return body

    def _event(self, body: bytes) -> Event:
        event: Event = json.loads(body)
        if event["event"] == SESSION:
            if event["format"] > FORMAT:
                raise EnvironmentProblem(
                    f"{self._path}: the record's format is {event['format']}, but this bnnsearch reads up to {FORMAT}: "
                    f"it was written by bnnsearch {event['versions'].get('bnnsearch')}"
                )
            self.known |= set(event["damaged"])
        return event

    @property
    def damage(self) -> str | None:
        """What is wrong with the lines read, in one line; None where nothing is."""
        if not self.damaged:
            return None
        places = [str(place) for place in sorted(self.damaged)]
        lines = f"{'line' if len(places) == 1 else 'lines'} {', '.join(places[:10])}{', ...' if places[10:] else ''}"
        return f"{self._path}: damaged at {lines}; the events there are left out, all others hold"


class Record:
    """A record that this process may append to; `held` makes one.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file
        self._reader: Reader | None = None
        self._last = self._end = 0

    @property
    def last(self) -> int:
        """Number of the last event."""
        self._open()
        return self._last

    @property
    def empty(self) -> bool:
        """Whether it has no event."""
        return self.last == 0

    @property
    def news(self) -> str | None:
        """What is wrong with it and was not told by an earlier session, in one line."""
        reader = self._open()
        return reader.damage if reader.damaged - reader.known else None

    @property
    def damaged(self) -> list[int]:
        """Lines that are damaged, or before which events are missing."""
        return sorted(self._open().damaged)

    def events(self, kinds: Collection[str] = ()) -> Iterator[Event]:
        """All events, or those of some kinds."""
        self._open()
        yield from Reader(self.path).events(kinds)

    def last_session(self) -> Event | None:
        """The event with which the newest session began; None where there is none."""
        self._open()
        return last_session(self.path)

    def begin_session(self, *, name: str, seed: int, space: str, **fields: Any) -> None:
        """Add the event of a driver that takes up the study; a power failure does not take it away.

        Args:
            name: the study's.
            seed: of the study.
            space: YAML of the space, as it is searched now.
            fields: more that is to be told.
        """
        last = self.last_session()
        known = {"identity": uuid4().hex, **fields}
        if last is not None and _original(last, self.path) is not None:
            known |= {COPY_OF: last["identity"]}
        elif last is not None:
            known |= {key: last[key] for key in ("identity", COPY_OF) if key in last}
        versions = {each: version(each) for each in ("torch", "optuna", "ray", "mlflow")}
        versions |= {"bnnsearch": __version__, "python": platform.python_version()}
        driver = {"host": platform.node(), "pid": os.getpid()}
        told = {
            "name": name,
            "seed": seed,
            "space": space,
            "versions": versions,
            "damaged": self.damaged,
            "driver": driver,
            "folder": str(self.path.parent.resolve()),
        }
        self.append(SESSION, format=FORMAT, **told, **known)
        self.sync()

    def append(self, event: str, **fields: Any) -> None:
        """Add an event; when this returns, no end of this process takes it away.

        Numbers that are not finite are left out, for JSON has none.

        Raises:
            OSError: it cannot be written, and is not there.
        """
        self._open()
        whole = {"event": event, "at": time.time_ns() // 1_000_000, **fields}
        try:
            body = json.dumps(whole, allow_nan=False)
        except ValueError:
            body = json.dumps(_finite(whole), allow_nan=False)
        self._write(encoded(self._last + 1, body.encode()))
        self._last += 1

    def sync(self) -> None:
        """Have the disk keep what was appended, even if the power fails."""
        os.fsync(self._file)

    def clear(self) -> None:
        """Forget every event."""
        os.ftruncate(self._file, 0)
        self._reader, self._last, self._end = None, 0, 0

    def _write(self, line: bytes) -> None:
        own = os.fstat(self._file)
        if own.st_size < self._end or not os.path.samestat(own, self.path.stat()):
            raise OSError(errno.ESTALE, "replaced or cut by another program", str(self.path))
        done = 0
        try:
            while done < len(line):
                done += os.pwrite(self._file, line[done:], self._end + done)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._end)  # half a line must not stand before the next one
            raise
        self._end += len(line)

    def _open(self) -> Reader:
        """Read the record once, so that the next event is written after its last whole line."""
        if self._reader is None:
            reader = Reader(self.path)
            for _ in reader.events((SESSION,)):
                pass
            self._reader, self._last, self._end = reader, reader.last, reader.end
            if reader.damaged and not reader.last:
                self._reader = None
                raise EnvironmentProblem(
                    f"{self.path}: no line of the study's record is whole; move it away to begin the study anew"
                )
            self._end_last_line(reader.lines + 1 in reader.damaged)
        return self._reader

    def _end_last_line(self, damaged: bool) -> None:
        """Cut off what a driver that was killed left of a line; what is no such beginning is kept, as damage."""
        size = os.fstat(self._file).st_size
        rest = os.pread(self._file, size - self._end, self._end)
        if not rest:
            return
        if damaged:
            self._write(rest + b"\n")
        else:
            os.ftruncate(self._file, self._end)


def _finite(value: Any) -> Any:
    """The value with numbers that are not finite left out of mappings, and null in lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items() if not _is_infinite(each)}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def original(folder: StudyFolder) -> Path | None:
    """The folder of the study that this one is a copy of, while the copy has not been searched in; None of any other.

    A folder that was moved lies no longer where its last session was. What it has in MLflow is the original's.
    """
    session = last_session(folder.record)
    return None if session is None else _original(session, folder.record)


def _original(session: Event, record: Path) -> Path | None:
    """The same, by the newest session of the study's own record."""
    there = StudyFolder(Path(session.get("folder", record.parent)))
    try:
        if there.record.samefile(record):
            return None
        return there.path if (last_session(there.record) or {}).get("identity") == session["identity"] else None
    except (OSError, EnvironmentProblem):  # it is gone, or no record any more
        return None


def last_session(path: Path) -> Event | None:
    """The event with which the newest session of the record at `path` began; None where there is none."""
    last = deque(Reader(path).events((SESSION,)), maxlen=1)
    return last[0] if last else None


@contextmanager
def held(folder: StudyFolder, already: Record | None = None, *, wait: float = 0.0) -> Iterator[Record]:
    """Lock the study's record, which is made where missing; the lock goes with the process, however it ends.

    Nothing else of the study, and nothing that it records in elsewhere, may be touched without it. A record that is
    still empty in the end is taken away again.

    Args:
        folder: the study's.
        already: the record, where this process holds it; nothing is locked then.
        wait: seconds to wait for another process; file servers notice late that one has died.

    Raises:
        StudyInUse: another process holds it.
        EnvironmentProblem: there is no such file, and none can be made.
    """
    if already is not None:
        yield already
        return
    file = _locked(folder, time.monotonic() + wait)
    try:
        yield Record(folder.record, file)
    finally:
        if os.fstat(file).st_size == 0:
            with suppress(OSError):
                folder.record.unlink()
                folder.path.rmdir()  # if nothing else is there either
        os.close(file)


def _locked(folder: StudyFolder, deadline: float) -> int:
    """The descriptor of the record that is there when the lock is ours: an empty one may have been taken away."""
    while True:
        file = _opened(folder)
        try:
            lock(file, wait=deadline - time.monotonic())
            if os.path.samestat(os.fstat(file), folder.record.stat()):
                return file
        except BlockingIOError:
            os.close(file)
            raise StudyInUse(f"{folder.path}: another process is working on this study") from None
        except FileNotFoundError:
            pass
        os.close(file)


def _opened(folder: StudyFolder) -> int:
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            check_regular(folder.record)
        return os.open(folder.record, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise EnvironmentProblem(
            f"{error.filename or folder.record}: the study's record cannot be written: {error.strerror}"
        ) from error
