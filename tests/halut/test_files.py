"""Folders that several processes want at once."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from halut.errors import HalutError
from halut.files import locked

ROOT = Path(__file__).resolve().parents[2]


def _holder(folder):
    code = (
        "import sys, time\nfrom halut.files import locked\n"
        f"with locked({str(folder)!r}):\n print('held', flush=True)\n sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.mark.parametrize("way", ["ends", "is killed", "removes it"])
def test_the_second_waits_with_one_line_for_the_first(tmp_path, caplog, way):
    folder = tmp_path / "run"
    holder = _holder(folder)
    inside = threading.Event()

    def second():
        with locked(folder):
            inside.set()

    waiter = threading.Thread(target=second)
    try:
        waiter.start()
        limit = time.monotonic() + 10
        while not caplog.messages and time.monotonic() < limit:
            time.sleep(0.01)
        assert caplog.messages == [f"waiting for another process that works in {folder}"]
        assert not inside.wait(0.1)
    finally:
        if way == "is killed":
            holder.send_signal(signal.SIGKILL)
        if way == "removes it":
            shutil.rmtree(folder)
        holder.communicate(b"")
        waiter.join(10)
    assert inside.is_set()
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_the_second_may_refuse_to_wait(tmp_path):
    message = rf"output must not be used by another run, but one works in it \({tmp_path}\)"
    holder = _holder(tmp_path)
    with pytest.raises(HalutError, match=message), locked(tmp_path, wait=False):
        pytest.fail("it was let in")
    holder.communicate(b"")
    with locked(tmp_path, wait=False):
        pass


def test_no_place_for_the_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(HalutError, match=r"output must be writable: .*file"),
        locked(tmp_path / "file" / "run"),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_refused_and_not_tried_for_ever():
    with (
        pytest.raises(HalutError, match=r"output must be writable: .* \(/proc/x\)"),
        locked("/proc/x"),
    ):
        pytest.fail("it was made")
