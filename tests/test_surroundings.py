"""Surroundings that are not as one wishes: no place to write, poor terminals, signals."""

import io
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from halut import golden
from halut.cli import run

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "small.yaml"

WRITERS = [
    "rtl_gen --config {config}",
    "rtl_gen direct dot_product",
    "rtl_gen cfu",
    "rtl_gen front-end --config {config} --height 4 --width 4 --channels 4",
    "halut learn --a a.npy --b b.npy --num-c 4 -o build/p.npz",
    "sim --config {config} --program p.npz --input x.npy",
    "flow synth --config {config} --no-power --synth-only",
    "flow bench --quick",
    pytest.param("flow units --platform osu018", marks=pytest.mark.slow),
    "flow orfs --config {config}",
    pytest.param("flow sweep {root}/configs/spaces/digits.yaml", marks=pytest.mark.slow),
    "sim.demo",
]


def _call(command: str) -> int:
    words = [word.format(config=CONFIG, root=ROOT) for word in command.split()]
    module = import_module(f"{words[0]}.__main__")
    return run(module.main, words[1:])


@pytest.fixture
def place(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    program = golden.random_program(rng, 4, 4, 2, "int8")
    program.save(tmp_path / "p.npz")
    np.save(tmp_path / "x.npy", rng.uniform(-99, 99, (5, program.n_features)))
    np.save(tmp_path / "a.npy", rng.standard_normal((600, 8)))
    np.save(tmp_path / "b.npy", rng.standard_normal((8, 3)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", WRITERS)
def test_no_place_for_products_is_one_line(place, capfd, command):
    # Root may write to a read-only folder; nobody can write below a file.
    (place / "build").write_text("mine")
    assert _call(command) == 2
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if "Traceback" in line] == []
    assert lines[-1].startswith("error: ")
    assert (place / "build").read_text() == "mine"


@pytest.mark.parametrize(
    "command",
    [
        "flow platforms",
        "flow model estimate --config {config}",
        "flow system --config {config} --network resnet9",
        "rtl_gen schedule --config {config} --shape 64 72 8",
        "flow --help",
        "rtl_gen --help",
        "halut --help",
        "sim --help",
    ],
)
def test_a_terminal_without_the_letters_gets_similar_ones(place, monkeypatch, command):
    del place
    texts = []
    for encoding in ("utf-8", "ascii"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, "stdout", stream)
        try:
            assert _call(command) == 0
        except SystemExit as end:
            assert end.code == 0
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(encoding))
    assert len(texts[0].splitlines()) == len(texts[1].splitlines())


def test_letters_become_similar_ones(monkeypatch):
    def speak(_):
        print("5 µm², 3×3, 2…4, Köln, ≥ 1, \udcff")
        return 0

    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    assert run(speak) == 0
    assert stream.buffer.getvalue() == b"5 um2, 3x3, 2...4, Koln, >= 1, ?\n"


# Tests that run in the background hand on that these are ignored.
AS_IN_FRONT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""


def _process(code: str, **streams):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = f"{AS_IN_FRONT}\nimport sys\nfrom halut.cli import run\n{code}\nsys.exit(run(main))"
    return subprocess.Popen([sys.executable, "-c", program], env=env, text=True, **streams)


def test_a_full_disk_behind_stdout_is_one_line():
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full is not there")
    with open("/dev/full", "w") as full:
        done = _process("def main(_):\n print(1)\n return 0", stdout=full, stderr=subprocess.PIPE)
        errors = done.communicate()[1]
    assert done.returncode == 2
    assert errors == "error: output must be writable: No space left on device\n"


def test_a_reader_that_leaves_is_no_error():
    code = "def main(_):\n for i in range(10**6): print(i)\n return 0"
    done = _process(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    done.stdout.read(10)
    done.stdout.close()
    assert done.stderr.read() == ""
    assert done.wait(10) == 1


def test_closed_streams_are_no_error():
    command = ["sh", "-c", f'exec "{sys.executable}" -m flow platforms >&- 2>&-']
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("HOME", None)
    assert subprocess.run(command, env=env, check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("SIGTERM", 143, "error: ended by SIGTERM\n"),
        ("SIGHUP", 129, "error: ended by SIGHUP\n"),
        ("SIGINT", 130, "error: interrupted\n"),
    ],
)
def test_signals_end_a_command_with_one_line(tmp_path, name, status, text):
    code = (
        "import time\nfrom halut.files import atomic_write\n"
        "def main(_):\n"
        f" with atomic_write({str(tmp_path / 'x.txt')!r}):\n"
        "  print('on', flush=True)\n  time.sleep(60)"
    )
    done = _process(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stdout.readline() == "on\n"
    done.send_signal(getattr(signal, name))
    _, errors = done.communicate(timeout=10)
    assert (done.returncode, errors) == (status, text)
    assert list(tmp_path.iterdir()) == []


def test_nohup_is_meant():
    code = (
        "import os, signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "def main(_):\n os.kill(os.getpid(), signal.SIGHUP)\n return 0"
    )
    assert _process(code).wait(20) == 0


def test_every_child_process_is_started_in_one_place():
    users = {
        str(path.relative_to(ROOT))
        for package in ("halut", "rtl_gen", "sim", "soc", "flow")
        for path in (ROOT / package).rglob("*.py")
        if any(word in path.read_text() for word in ("subprocess", "os.system(", "os.exec"))
    }
    # A bench that talks with a driver: it is in a simulation, whose supervisor ends both.
    users.remove("sim/benches/axi_driver.py")
    assert users == {"halut/process.py", "halut/supervisor.py"}
