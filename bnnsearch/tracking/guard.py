"""`python -m bnnsearch.tracking.guard COMMAND...` runs a command that ends with whoever started it, however that ends.

It reads a pipe from its starter. Where the pipe ends, as it does also when the starter is killed, the command and all
that it started get SIGTERM, and SIGKILL where they do not heed it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

HEED_SECONDS = 5.0


def main(command: Sequence[str]) -> int:
    """Run the command to its end; the exit code is its own."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as server:
        threading.Thread(target=_end_with_starter, args=[server], daemon=True).start()
        code = server.wait()
        _signal_all(server, signal.SIGKILL)
    return code


def _end_with_starter(server: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    _signal_all(server, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        server.wait(HEED_SECONDS)
    _signal_all(server, signal.SIGKILL)


def _signal_all(server: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
