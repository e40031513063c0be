"""The embedded store's SQLite file: made whole beside its place and renamed into it; rebuilt where it is broken.

MLflow makes its tables by a chain of migrations that commit one by one, so a process that dies in the first one leaves
tables that no later migration accepts. Here a migration only ever works on a draft in the same folder, under a lock. A
file that is broken all the same is kept under another name, and what can be read of it goes into the new one.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Set
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from bnnsearch.errors import EnvironmentProblem
from bnnsearch.files import check_replaceable, lock

SUFFIXES = frozenset({".db", ".sqlite", ".sqlite3"})
"""Only a file with such a name is taken for a damaged store, and moved aside."""

LOCK_SECONDS = 120.0
"""How long another process may take to make the store."""

CHECK_SECONDS = 2.0
"""How long the pages of a large store are looked through; damage beyond is found by whoever reads it."""

TEMPORARY = "_alembic_tmp_"
"""What a table is called while a migration copies it."""

_VERSION = "alembic_version"
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_JOURNALS = ("-journal", "-wal", "-shm")


def database_uri(path: Path) -> str:
    """The URI of the SQLite file at `path`, absolute: SQLAlchemy decodes `%XX` in it and cuts it at `?`."""
    text = str(path)
    escaped = text.replace("%", "%25").replace("?", "%3F")
    # MLflow makes the folder of every `sqlite:///` URI; of this one it would make one with the escaped name.
    return f"sqlite:///{text}" if escaped == text else f"sqlite+pysqlite:///{escaped}"


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether SQLite finds the file itself wrong, and not busy, read-only or out of reach."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def make_ready(path: Path) -> str | None:
    """Make the file at `path` a store that this MLflow opens; MLflow must be imported.

    Returns:
        What was wrong and what was done, in one line; None where there was a whole store or none at all.

    Raises:
        EnvironmentProblem: the file cannot be used, belongs to something else, or to a newer MLflow.
    """
    _close_connections(path)
    try:
        check_replaceable(path)
        if _is_there(path) and _flaw(path) is None:
            return None
        with _locked(path):
            if not _is_there(path):
                _make(path)
                return None
            flaw = _flaw(path)  # another process may have mended it meanwhile
            return None if flaw is None else _rebuild(path, flaw)
    except (OSError, sqlite3.Error) as error:
        raise EnvironmentProblem(f"{path}: the tracking database cannot be used ({error})") from error


def has_runs(path: Path, run_ids: Set[str]) -> bool:
    """Whether the store at `path` has all these runs, deleted ones too; looked up without MLflow."""
    if not run_ids:
        return True
    try:
        if not _is_there(path):
            return False
        with closing(_opened(path)) as database:
            return run_ids <= {run_id for (run_id,) in database.execute("SELECT run_uuid FROM runs")}
    except (OSError, sqlite3.Error):
        return False


def _is_there(path: Path) -> bool:
    """Whether there is a store; who asks SQLite for the right to write leaves an empty file."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    try:
        with closing(_opened(path)) as database:
            return bool(_tables(database) - {_VERSION})
    except sqlite3.Error as error:
        if is_damaged(error):
            return True
        raise


def _flaw(path: Path) -> str | None:
    """Why MLflow cannot use the file as it is, in a few words."""
    try:
        with closing(_opened(path)) as database:
            intact, tables, version = _is_intact(database), _tables(database), _version(database)
    except sqlite3.Error as error:
        if not is_damaged(error):
            raise
        intact, tables, version = False, set(), None
    if not intact:
        if path.suffix not in SUFFIXES:
            raise EnvironmentProblem(f"{path}: is not a database; a tracking URI names a file such as mlflow.db")
        return "the database was damaged"
    known, revisions = _known_tables(), _revisions()
    if any(name.startswith(TEMPORARY) for name in tables):
        return "a migration of the database was cut off"
    if not tables & known:
        raise EnvironmentProblem(f"{path}: holds {', '.join(sorted(tables)[:3])} and is no store of MLflow's")
    if version is not None and version not in revisions:
        raise EnvironmentProblem(f"{path}: a newer MLflow made it (its schema is {version}); install that one")
    if version != revisions[0] or not known <= tables:
        return "the database was not what this MLflow needs"
    return None


def _make(path: Path) -> None:
    with _scratch(path) as home:
        _migrate(home / "new.db")
        (home / "new.db").replace(path)


def _rebuild(path: Path, flaw: str) -> str:
    """Put a whole store in the place of a broken one, which is kept."""
    with _scratch(path) as home:
        made = _migrated(path, home) or _salvaged(path, home)
        with closing(_opened(made)) as database:
            runs = database.execute("SELECT count(*) FROM runs").fetchone()[0]
        aside = next(each for each in map(path.with_name, _names(f"{path.name}.broken")) if not each.exists())
        _move_journals(path, aside)  # first, or SQLite would roll them back into the new file
        try:
            aside.hardlink_to(path)  # from here on to the end there is always a file at `path`
        except OSError:
            shutil.copy2(path, aside)
        made.replace(path)
    return f"{path}: {flaw}; it was made anew with the {runs} runs that could be read, the old file is {aside.name}"


def _migrated(path: Path, home: Path) -> Path | None:
    """A copy on which the migrations are carried to their end; None where that fails."""
    made = _copied(path, home / "migrated.db")
    try:
        with closing(_opened(made)) as database:
            tables = _tables(database)
            for name in (name for name in tables if name.startswith(TEMPORARY)):
                final = name.removeprefix(TEMPORARY)
                if final in tables:
                    database.execute(f'DROP TABLE "{name}"')  # still being filled
                else:
                    database.execute(f'ALTER TABLE "{name}" RENAME TO "{final}"')  # all that there is
        _migrate(made)
        return made if _flaw(made) is None else None
    except Exception:  # a broken file breaks a migration in every way
        return None


def _salvaged(path: Path, home: Path) -> Path:
    """A new store with the rows that can be read of the old one."""
    made = home / "salvaged.db"
    _migrate(made)
    with closing(_opened(made)) as new, closing(_opened(_copied(path, home / "old.db"))) as old:
        old.text_factory = lambda text: text.decode("utf-8", "replace")
        new.execute("BEGIN")
        with suppress(sqlite3.DatabaseError):  # not even the list of tables can be read
            tables = _tables(old)
            for name in _known_tables():
                _copy_rows(old, name if name in tables else TEMPORARY + name, new, name)
        new.execute("COMMIT")
    return made


def _copy_rows(old: sqlite3.Connection, source: str, new: sqlite3.Connection, name: str) -> None:
    """Copy the rows of a table that can be read and that keep the rules of the new one."""
    there = _columns(old, source)
    columns = [column for column in _columns(new, name) if column in there]
    if not columns:
        return
    listed = ", ".join(f'"{column}"' for column in columns)
    insert = f'INSERT OR REPLACE INTO "{name}" ({listed}) VALUES ({", ".join("?" * len(columns))})'
    for order in ("", " ORDER BY rowid DESC"):  # from both ends up to a page that cannot be read
        with suppress(sqlite3.DatabaseError):
            for row in old.execute(f'SELECT {listed} FROM "{source}" NOT INDEXED{order}'):
                with suppress(sqlite3.IntegrityError):
                    new.execute(insert, row)
            return


def _migrate(path: Path) -> None:
    """Make MLflow's tables, or bring them up to date, in a file that nobody needs until that is done."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import NullPool, create_engine, event

    engine = create_engine(database_uri(path), poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _hurry(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")  # a migration commits hundreds of times

    _initialize_tables(engine)  # type: ignore[no-untyped-call]
    with path.open("rb+") as made:
        os.fsync(made.fileno())


def _close_connections(path: Path) -> None:
    """Have MLflow, which keeps connections to a file that may be another one by now, open it anew."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = SqlAlchemyStore._engine_map.get(database_uri(path))
    if engine is not None:
        engine.dispose()


@cache
def _revisions() -> list[str]:
    """Versions of the schema that this MLflow knows, the newest first."""
    from alembic.script import ScriptDirectory
    from mlflow.store import db_migrations

    return [each.revision for each in ScriptDirectory(db_migrations.__path__[0]).walk_revisions()]


@cache
def _known_tables() -> frozenset[str]:
    from mlflow.store.db import utils  # noqa: F401  # with all modules that have tables
    from mlflow.store.db.base_sql_model import Base

    return frozenset(Base.metadata.tables)


def _opened(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there, or that is made where its folder is there."""
    return sqlite3.connect(f"file:{quote(str(path), errors='surrogateescape')}", uri=True, isolation_level=None)


def _tables(database: sqlite3.Connection) -> set[str]:
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {name for (name,) in rows}


def _version(database: sqlite3.Connection) -> str | None:
    if _VERSION not in _tables(database):
        return None
    found = database.execute(f"SELECT version_num FROM {_VERSION}").fetchone()
    return None if found is None else str(found[0])


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]


def _is_intact(database: sqlite3.Connection) -> bool:
    ends = time.monotonic() + CHECK_SECONDS
    database.set_progress_handler(lambda: time.monotonic() > ends, 10_000)
    try:
        return bool(database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return True
        raise
    finally:
        database.set_progress_handler(None, 0)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the place of the store; the lock goes with the process, however it ends."""
    with path.with_name(f".{path.name}.lock").open("a") as file:
        try:
            lock(file, wait=LOCK_SECONDS)
        except BlockingIOError:
            raise EnvironmentProblem(f"{path}: another process has been making it for too long") from None
        yield


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """A folder beside `path` for drafts, and no more of those that dead processes left. Only under the lock."""
    prefix = f".{path.name}.draft-"
    for left in path.parent.iterdir():
        if left.name.startswith(prefix):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=path.parent, prefix=prefix, ignore_cleanup_errors=True) as home:
        yield Path(home)


def _copied(path: Path, copy: Path) -> Path:
    shutil.copyfile(path, copy)
    for suffix in _JOURNALS:
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


def _move_journals(path: Path, aside: Path) -> None:
    for suffix in _JOURNALS:
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")


def _names(stem: str) -> Iterator[str]:
    yield stem
    yield from (f"{stem}-{number}" for number in count(2))
