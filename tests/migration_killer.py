"""Dies in the middle of MLflow's first migration: `python migration_killer.py HOME WAY FIRST STEP LAST`.

WAY is `theirs`, MLflow's own migration of HOME/theirs-K.db, or `ours`, `make_ready` of HOME/ours.db. For each K from
FIRST on a forked child dies at the Kth statement that the migration executes. Prints a line of JSON: the Ks.
"""

import json
import os
import sys
from pathlib import Path

from bnnsearch.tracking.database import _migrate, make_ready
from bnnsearch.tracking.store import import_mlflow


def dying(path, way, fatal):
    """Whether the child died of it: `fatal` was not beyond the last statement."""
    child = os.fork()
    if child == 0:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        seen = 0

        @event.listens_for(Engine, "before_cursor_execute")
        def count(*statement):
            nonlocal seen
            seen += 1
            if seen > fatal:
                os._exit(9)

        (_migrate if way == "theirs" else make_ready)(path)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def main(home, way, first, step, last):
    import_mlflow()
    died = []
    for fatal in range(first, last, step):
        path = Path(home) / (f"theirs-{fatal}.db" if way == "theirs" else "ours.db")
        if not dying(path, way, fatal):
            break
        assert path.exists() == (way == "theirs"), fatal
        died.append(fatal)
    print(json.dumps(died))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
