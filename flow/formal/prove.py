"""Proofs of properties: a unit's Verilog, a checker around it, Yosys, ABC.

A checker is a Verilog file of its own, written from what the unit promises and not from how it is
made. Its module `proof` holds the unit, drives it with free inputs, and has one output
``bad_<property>`` for each property, which must never be 1. Yosys makes an and-inverter graph with
latches of each, ABC proves it: `pdr` without bound, or `bmc` where the checker itself ends after a
number of cycles. Registers without a reset value begin with any value.

The checker's input ``twin`` is 0 in these proofs. With a property's number it breaks the unit, at
one of its ports, or the rule in one place; then the property must be refuted, or it says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flow.formal.abc import run_abc
from flow.tools import Tool, run_tool
from halut.errors import CheckFailed, HalutError
from halut.files import write_text
from rtl_gen.units.unit import Unit
from rtl_gen.verilog import unit_verilog

__all__ = ["Check", "Outcome", "Property", "prove_check"]

HERE = Path(__file__).parent

# Latches and clock gates as registers at clock edges: a latch has its new value from the high
# phase that follows the edge, during which its data stand still.
_SCRIPT = """\
read_verilog unit.v
read_verilog -overwrite -icells cells.v
read_verilog -overwrite {defines} {checker}
hierarchy -check -top proof {parameters}
proc
flatten
opt_clean
memory -nomap
memory_map
opt_expr
wreduce
opt_clean
techmap
opt_expr
opt_merge
opt_clean
dfflegalize -cell $_DFF_P_ 01
aigmap
design -save whole
"""
_ONE = """\
design -load whole
delete -port o:bad_* o:bad_{name} %d i:twin
connect -set twin 8'd{twin}
opt_expr
opt_clean -purge
write_aiger -zinit -symbols {file}
"""


@dataclass(frozen=True)
class Property:
    """One thing that a checker proves."""

    name: str  #: The checker's output is ``bad_<name>``.
    says: str  #: What holds, in words.
    twin: int  #: Value of the input ``twin`` for which it must not hold.


@dataclass(frozen=True, kw_only=True)
class Check:
    """A unit with a checker."""

    name: str  #: Unit and configuration, for reports; letters, digits, ``_``.
    unit: Callable[[], Unit]  #: Makes the unit; called when the check runs.
    #: File of the checker in this package; a module in it stands for the unit's of that name.
    checker: str
    parameters: Mapping[str, int] = field(default_factory=dict)  #: Of the checker.
    #: Macros, besides ``DUT``, the name of the unit's module.
    defines: Mapping[str, str] = field(default_factory=dict)
    properties: tuple[Property, ...]
    frames: int = 0  #: Cycles after which the checker says nothing more; 0: proved without bound.


@dataclass
class Outcome:
    """What became of one property."""

    check: str
    name: str
    says: str
    proved: bool = False  #: By the solver, for the unit as it is.
    refuted: bool = False  #: For the twin.
    #: Inputs, cycle by cycle, that break the property of the unit; "" when it is proved.
    example: str = ""

    @property
    def good(self) -> bool:
        return self.proved and self.refuted


def prove_check(
    check: Check, yosys: Tool, abc: Tool, folder: Path, timeout: float = 120
) -> list[Outcome]:
    """Prove all properties of a check and refute their twins.

    Parameters
    ----------
    folder : Path
        Where circuits, logs and counterexamples go.
    timeout : float
        Seconds for a property.

    Raises
    ------
    CheckFailed
        When the solver decides a property neither way.
    HalutError
        When the checker does not fit the unit.
    """
    folder = (folder / check.name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    unit = check.unit()
    check = replace(check, defines={**check.defines, "DUT": unit.module_name})
    write_text(folder / "unit.v", unit_verilog(unit))
    _translate(check, yosys, folder)
    answers = {twin: _decide(check, abc, folder, twin, timeout) for twin in (False, True)}
    found = []
    for prop in check.properties:
        example = answers[False][prop.name]
        found.append(
            Outcome(
                check.name,
                prop.name,
                prop.says,
                proved=example is None,
                refuted=answers[True][prop.name] is not None,
                example=example or "",
            )
        )
    return found


def _file(name: str, twin: bool) -> str:
    return f"{name}_twin" if twin else name


def _translate(check: Check, yosys: Tool, folder: Path) -> None:
    """Two and-inverter graphs per property, one of them its twin's."""
    defines = " ".join(f"-D{name}={value}" for name, value in check.defines.items())
    parameters = " ".join(f"-chparam {name} {value}" for name, value in check.parameters.items())
    text = _SCRIPT.format(defines=defines, parameters=parameters, checker=check.checker)
    for prop in check.properties:
        for twin in (0, prop.twin):
            name = _file(prop.name, bool(twin))
            text += _ONE.format(name=prop.name, twin=twin, file=f"{name}.aig")
    for name in ("cells.v", check.checker):
        write_text(folder / name, (HERE / name).read_text())
    write_text(folder / "check.ys", text)
    run_tool(yosys, ["check.ys"], folder / "yosys.log", cwd=folder, timeout=300)


def _decide(
    check: Check, abc: Tool, folder: Path, twin: bool, timeout: float
) -> dict[str, str | None]:
    """Per property None when it is proved, else the counterexample."""
    names = [prop.name for prop in check.properties]
    commands = []
    open_names = []
    for name in names:
        graph = folder / f"{_file(name, twin)}.aig"
        if b"\no0 bad_" not in graph.read_bytes():
            raise HalutError(f"a checker must have an output bad_{name} ({check.checker})")
        if _is_never(graph):
            continue
        open_names.append(name)
        solve = (
            f"bmc3 -F {check.frames} -T {timeout:.0f}"
            if check.frames
            else f"scorr; write_aiger {_file(name, twin)}_small.aig; pdr -T {timeout:.0f}"
        )
        example = folder / f"{_file(name, twin)}.cex"
        example.unlink(missing_ok=True)
        commands.append(
            f"read_aiger {_file(name, twin)}.aig; strash; {solve}; "
            f"write_cex -n {_file(name, twin)}.cex"
        )
    if not commands:
        return dict.fromkeys(names)
    log_name = _file("check", twin)
    write_text(folder / f"{log_name}.abc", "\n".join(commands).replace("; ", "\n") + "\n")
    log = run_abc(
        abc, f"source -x {log_name}.abc", folder, f"{log_name}_abc", timeout * len(names) + 60
    )
    parts = log.split("read_aiger ")[1:]
    if len(parts) != len(open_names):
        raise CheckFailed(f"ABC must answer for every property of {check.name} (log: {folder})")
    found: dict[str, str | None] = dict.fromkeys(names)
    for name, part in zip(open_names, parts, strict=True):
        example = folder / f"{_file(name, twin)}.cex"
        if example.is_file():
            found[name] = _readable(example.read_text())
        elif not _proved(part, check.frames) and (
            check.frames or not _is_never(folder / f"{_file(name, twin)}_small.aig")
        ):
            raise CheckFailed(
                f"ABC must decide {name} of {check.name} within {timeout:g} s "
                f"(log: {folder / log_name}_abc.log)"
            )
    return found


def _proved(log: str, frames: int) -> bool:
    if frames:
        done = re.search(r"No output (?:failed|asserted) in (\d+) frames", log)
        return done is not None and int(done[1]) >= frames
    return "Property proved" in log


def _is_never(path: Path) -> bool:
    """Whether the one output of a graph is the constant 0."""
    lines = path.read_bytes().split(b"\n", 2)
    _, _, _, latches, _, gates = lines[0].split()[:6]
    return int(latches) == int(gates) == 0 and lines[1] == b"0"


def _readable(text: str) -> str:
    """ABC's counterexample as a line per cycle: vectors as numbers, without helper names."""
    frames: dict[int, dict[str, dict[int, int]]] = {}
    for name, frame, value in re.findall(r"^([^\s#]\S*)@(\d+)=([01x])", text, re.M):
        match = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", name)
        if match is None or re.fullmatch(r"n\d+|init:.*|clk", match[1]):
            continue
        bits = frames.setdefault(int(frame), {}).setdefault(match[1], {})
        bits[int(match[2] or 0)] = int(value == "1")
    lines = []
    for frame in sorted(frames):
        values = [
            f"{name}={sum(bit << index for index, bit in bits.items()):#x}"
            for name, bits in frames[frame].items()
        ]
        lines.append(f"cycle {frame}: " + " ".join(values))
    return "\n".join(lines) or "every input"
