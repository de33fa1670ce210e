"""Runs one command for `halut.process`: ``python -I -S supervisor.py LIFELINE COMMAND ...``.

A process of its own, which survives whatever ends the process that asked for the command. It
notices that end at once, because then nobody holds the other end of the socket LIFELINE, and ends
the command and everything that the command started. After the command's own end it writes the
largest resident set, in the unit of getrusage(2), to LIFELINE. It imports nothing that starts
slowly.
"""

import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_GRACE_S = 2.0  # between SIGTERM, which a container's client hands on, and SIGKILL
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # numbers of prctl(2)


def _prctl(option: int, value: int) -> None:
    """Ask Linux for something; other systems do without."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def _start(command: list[str], lifeline: int) -> int:
    """Start the command as the leader of a process group; return its process number."""
    child = os.fork()
    if child:
        return child
    try:
        os.close(lifeline)
        os.setpgid(0, 0)
        _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        # Python ignores these; and ours are handled until here.
        for name in ("SIGPIPE", "SIGXFSZ", "SIGCHLD", "SIGTERM", "SIGINT", "SIGHUP"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode(errors="replace"))
    finally:
        os._exit(126)


def _reap(child: int) -> "tuple[tuple[int, int] | None, bool]":
    """Take leave of processes that ended.

    Returns status and largest resident set of the command, if it is among them, and whether other
    processes remain.
    """
    found = None
    try:
        while True:
            ended, status, usage = os.wait4(-1, os.WNOHANG)
            if ended == child:
                found = status, usage.ru_maxrss
            if not ended:
                return found, True
    except ChildProcessError:
        return found, False


def _adopted() -> "list[int]":
    """Return this process's children; those that left the command's group come here, too."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(process) for process in file.read().split()]
    except OSError:
        return []


def _signal(send: "Callable[[int, int], None]", target: int, number: int) -> bool:
    """Signal a process or a group; return whether it exists."""
    try:
        send(target, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _end(group: int) -> None:
    """End everything that the command started: asked for at first, by force later."""
    start = time.monotonic()
    number = signal.SIGTERM
    sent: set[int] = set()
    _signal(os.killpg, group, number)
    while time.monotonic() < start + 2 * _GRACE_S:
        _, remain = _reap(group)
        if not _signal(os.killpg, group, 0) and not remain:
            return
        if number == signal.SIGTERM and time.monotonic() > start + _GRACE_S:
            number, sent = signal.SIGKILL, set()
            _signal(os.killpg, group, number)
        for process in set(_adopted()) - sent:
            _signal(os.kill, process, number)
            sent.add(process)
        time.sleep(0.01)


def main() -> None:
    lifeline, command = int(sys.argv[1]), sys.argv[2:]
    _prctl(_SET_SUBREAPER, 1)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    child = _start(command, lifeline)
    found = None
    while found is None:
        ready, _, _ = select.select([lifeline, woken], [], [])
        if lifeline in ready or set(os.read(woken, 512)) - {signal.SIGCHLD}:
            break
        found, _ = _reap(child)
    _end(child)
    if found is None:
        os._exit(1)
    status, peak = found
    try:  # noqa: SIM105 (contextlib would have to be imported)
        os.write(lifeline, b"%d" % peak)
    except OSError:
        pass
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        # End as the command did. Its core is worth keeping, this one's is not.
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
