"""Child processes: what they return, and that nothing of them outlives whoever asked for them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from halut import process


def test_status_and_output():
    done = process.run(["sh", "-c", "cat; echo bad >&2; exit 3"], text="µ\n")
    assert (done.status, done.output, done.errors) == (3, "µ\n", "bad\n")
    assert done.seconds < 10


def test_a_signal_is_a_negative_status():
    assert process.run(["sh", "-c", "kill -SEGV $$"]).status == -signal.SIGSEGV


def test_both_outputs_go_to_the_log(tmp_path):
    done = process.run(
        ["sh", "-c", "echo out; echo err >&2; pwd"], log=tmp_path / "l", cwd=tmp_path
    )
    assert (tmp_path / "l").read_text() == f"out\nerr\n{tmp_path}\n"
    assert done.output == done.errors == ""


def test_the_peak_is_that_of_the_command():
    done = process.run([sys.executable, "-c", "x = bytearray(100 << 20)"])
    assert 100 < done.peak_mb < 200


@pytest.mark.parametrize("command", ["no-such-program", "/etc/passwd"])
def test_what_cannot_be_executed_is_named(command):
    with pytest.raises(OSError) as error:
        process.run([command])
    assert error.value.filename == command


def _left(folder: Path) -> list[str]:
    """Commands that run in a folder."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{number}/cwd") == str(folder):
                found.append(Path(f"/proc/{number}/cmdline").read_text())
        except OSError:
            pass
    return found


def _wait_until(condition):
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which Linux has")
# A child, one that changed its group, and one that left the session.
TREE = "sleep 61 & setsid sleep 62 & sleep 63"


@linux
def test_at_the_limit_everything_ends(tmp_path):
    done = process.run(["sh", "-c", TREE], cwd=tmp_path, timeout_s=0.3)
    assert done.status is None
    assert done.seconds < 5
    assert _left(tmp_path) == []


@linux
def test_what_runs_on_in_the_background_ends_with_the_command(tmp_path):
    assert (
        process.run(["sh", "-c", "sleep 61 & setsid sleep 62 & exit 4"], cwd=tmp_path).status == 4
    )
    assert _left(tmp_path) == []


@linux
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_whatever_ends_the_caller_ends_everything(tmp_path, name):
    # Tests that run in the background hand on that these are ignored.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        f"from halut import process; process.run(['sh', '-c', {TREE!r}])"
    )
    root = Path(__file__).resolve().parents[2]
    caller = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until(lambda: sum("sleep" in command for command in _left(tmp_path)) >= 3)
        caller.send_signal(getattr(signal, name))
        assert caller.wait(10) != 0
        _wait_until(lambda: not _left(tmp_path))
    finally:
        caller.kill()
        caller.wait()
