"""Proofs that a mutant behaves as the original does, with Yosys."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path

from halut import process

__all__ = ["proved_equal"]

_LIMIT_S = 60


def proved_equal(original: str, changed: str, module: str) -> bool:
    """Prove that a module behaves the same in two Verilog texts, by induction over its states.

    The units inside the module are taken out: they must be given the same values, which they may
    answer in any way. Registers must be equal one by one.

    Parameters
    ----------
    module : str
        The module that differs.

    Returns
    -------
    bool
        False when there is no proof within a minute; the two may be equal then, too.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("gold", original), ("gate", changed)):
            Path(folder, f"{name}.v").write_text(_alone(text, module), encoding="utf-8")
        done = process.run(
            [sys.executable, "-m", "flow.mutation.equivalence", folder, module],
            timeout_s=_LIMIT_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return done.status == 0


def _alone(verilog: str, module: str) -> str:
    """The module, its instances replaced by ports for what goes in and out of them."""
    found = re.search(rf"^module {re.escape(module)}\((.*?)\);\n(.*?)^endmodule\n", verilog,
                      re.M | re.S)  # fmt: skip
    if found is None:
        return ""
    outputs = {
        name: set(re.findall(r"^\s*output\s+(?:reg\s+|wire\s+)?(?:\[.*?\]\s*)?(\w+)", body, re.M))
        for name, body in re.findall(r"^module (\w+)\b(.*?)^endmodule", verilog, re.M | re.S)
    }
    ports, body = found[1], found[2]
    instance = re.compile(r"^  (halut_\w+)\s(?:#\(.*?\)\s)?(\\\S+\s|\w+)\s*\(\n(.*?)^  \);\n",
                          re.M | re.S)  # fmt: skip
    extra: list[str] = []

    def replace(match: re.Match[str]) -> str:
        lines = []
        name = re.sub(r"\W", "_", match[2].strip())
        for port, wire in re.findall(r"\.(\w+)\((.*)\)", match[3]):
            free = f"cut_{name}_{port}_{len(extra)}"
            extra.append(free)
            # 512 bits are more than any port of a unit that is mutated has.
            if port in outputs.get(match[1], set()):
                lines.append(f"  input [511:0] {free};\n  assign {wire} = {free};\n")
            else:
                lines.append(f"  output [511:0] {free};\n  assign {free} = {wire};\n")
        return "".join(lines)

    body = instance.sub(replace, body)
    return f"module {module}({', '.join([ports, *extra])});\n{body}endmodule\n"


def _prove(folder: str, module: str) -> None:
    from pyosys import libyosys

    design = libyosys.Design()
    for name in ("gold", "gate"):
        for command in (f"read_verilog {folder}/{name}.v", f"rename {module} {name}"):
            libyosys.run_pass(command, design)
    for command in (
        "proc",
        "memory_map",
        "opt_clean",
        "equiv_make gold gate equal",
        "hierarchy -top equal",
        "opt_clean",
        "equiv_simple -undef",
        "equiv_induct -undef -seq 4",
        "equiv_status -assert",
    ):
        libyosys.run_pass(command, design)


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        _prove(*sys.argv[1:])
