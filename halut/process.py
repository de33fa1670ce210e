"""Child processes that end with their parent, and take their own children with them.

Every tool, simulator and helper is started by `run`. A supervisor process stands between: whatever
ends the caller (an exception, a signal, SIGKILL, a closed terminal), the command and everything
that it started end, too. Callers need no signal handler for that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Done", "run"]

_SUPERVISOR = Path(__file__).with_name("supervisor.py")


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that ended.

    Attributes
    ----------
    status : int or None
        Exit status; ``-n`` when signal n ended it; None when it was ended at the time limit.
    output, errors : str
        What it printed on stdout and stderr; empty when that went to a file.
    seconds : float
        Wall-clock time.
    peak_mb : float
        Largest resident set of one of its processes, MB.
    """

    status: int | None
    output: str
    errors: str
    seconds: float
    peak_mb: float


def _executable(command: str, env: Mapping[str, str] | None) -> str:
    """Return the path of a program, or say which rule it breaks."""
    found = shutil.which(command, path=(env or os.environ).get("PATH", os.defpath))
    if found is None:
        number = errno.EACCES if os.path.exists(command) else errno.ENOENT
        raise OSError(number, os.strerror(number), command)
    return found


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    timeout_s: float | None = None,
) -> Done:
    """Run a command to its end.

    Parameters
    ----------
    command : sequence of str or path-like
        Program and arguments; no shell reads them.
    log : pathlib.Path, optional
        File for everything that it prints; by default that is returned.
    cwd : pathlib.Path, optional
        Folder that it runs in; the present one by default.
    env : mapping of str to str, optional
        Its whole environment; the present one by default.
    text : str, optional
        What it reads from stdin; nothing by default.
    timeout_s : float, optional
        Limit in seconds.

    Raises
    ------
    OSError
        When the program cannot be executed or the log cannot be written.
    """
    program = _executable(os.fspath(command[0]), env)
    words = [program, *(os.fspath(word) for word in command[1:])]
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open(log, "wb")) if log is not None else None
        lifeline, theirs = socket.socketpair()
        stack.enter_context(lifeline)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR), str(theirs.fileno()), *words],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
                stdout=subprocess.PIPE if stream is None else stream,
                stderr=subprocess.PIPE if stream is None else subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                # Ctrl-C in a terminal is for this process, which then ends that one.
                start_new_session=True,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        return _wait(process, lifeline, text, timeout_s)


def _wait(
    process: subprocess.Popen[str],
    lifeline: socket.socket,
    text: str | None,
    timeout_s: float | None,
) -> Done:
    start = time.monotonic()
    late = False
    try:
        output, errors = process.communicate(text, timeout_s)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        if process.returncode is None:
            # Now the supervisor ends the command, then itself.
            lifeline.shutdown(socket.SHUT_WR)
            output, errors = process.communicate()
    # Bytes on macOS, kilobytes elsewhere.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    lifeline.setblocking(False)
    peak = b""
    with contextlib.suppress(OSError):
        peak = lifeline.recv(64)
    return Done(
        status=None if late else process.returncode,
        output=output or "",
        errors=errors or "",
        seconds=time.monotonic() - start,
        peak_mb=int(peak or b"0") / unit,
    )
