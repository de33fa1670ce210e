"""The custom function unit, and the processor that it stands beside, as designs for the flow."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flow.designs.design import Design, Stream, Workload
from flow.tools import find_yosys, plain_path, run_tool
from halut import golden
from halut.checks import one_of
from halut.errors import HalutError
from halut.files import write_text
from rtl_gen.cfu import CfuConfig, generate
from sim.cfu import add_rows, encode_rows, random_layer

__all__ = ["WORK", "cfu", "processor", "without_arrays"]

WORK = ("add", "encode")
"""What the unit does while its energy is measured."""

N_CODEBOOKS = 24
N_ROWS = 16  # that are encoded with the thresholds of one codebook, 4 x 4 pixels


def cfu(config: CfuConfig, work: str) -> Design:
    """The unit with a command in every cycle: a layer's look-ups, or its encoding.

    Parameters
    ----------
    config : CfuConfig
    work : {"add", "encode"}
        "add": rows of as many outputs as the unit has sums, 24 codebooks, and the reading of sums.
        "encode": per codebook its thresholds and 16 rows.

    Returns
    -------
    Design
        Its look-ups per cycle are additions of one entry ("add"), or codes ("encode").
    """
    one_of("work", work, WORK)
    c = config
    steps = (c.tree_depth + 1) // 2
    if work == "add":
        done = N_CODEBOOKS * c.n_sums
        commands = N_CODEBOOKS * c.banks + c.n_sums
    else:
        done = N_ROWS
        commands = c.n_prototypes // 2 + N_ROWS * steps

    def workload(seed: int, n_transfers: int) -> Workload:
        rng = np.random.default_rng(seed)
        n_rounds = -(-n_transfers // commands)
        n_rows = n_rounds if work == "add" else N_ROWS
        n_codebooks = N_CODEBOOKS if work == "add" else n_rounds
        program, words = random_layer(c, rng, n_rows, n_codebooks, c.n_sums)
        codes = golden.encode(program, words)
        if work == "add":
            exchanges = add_rows(c, program, codes, golden.accumulate(program, codes))
        else:
            exchanges = encode_rows(c, program, words, codes)
        return Workload(
            setup=[],
            inputs=Stream(
                valid="cmd_valid",
                ready="cmd_ready",
                payload=("cmd_function_id", "cmd_inputs_0", "cmd_inputs_1"),
                items=[command for command, _ in exchanges],
            ),
            outputs=Stream(
                valid="rsp_valid",
                ready="rsp_ready",
                payload=("rsp_data",),
                items=[(answer,) for _, answer in exchanges],
            ),
            look_ups=done / commands,
            macs=0,
            description=f"random layer, {work}, a command in every cycle",
            seed=seed,
        )

    return Design(
        name=c.name,
        slug=f"{c.slug}_{work}",
        verilog=generate(c).verilog,
        top="halut_cfu",
        clock="clk_i",
        reset="rst_ni",
        look_ups_per_cycle=done / commands,
        macs_per_cycle=0,
        codebook_width=None,
        latency_cycles=c.latency_cycles,
        interval_cycles=commands,
        config_hash=c.hash,
        workload=workload,
        labels={"halut_cfu": "custom function unit"},
        workload_key=hashlib.sha256(work.encode()).hexdigest()[:8],
    )


_ARRAY = re.compile(r"^  (?:\(\*.*?\*\) )?reg \[(\d+):0\] (\w+) \[0:(\d+)\];\n", re.M)
_WRITE = re.compile(r"^( *)(\w+)\[(\w+)\] <= (.+);\n", re.M)
_READ = re.compile(r"^( *)(\w+) <= (\w+)\[(\w+)\];\n", re.M)


def without_arrays(verilog: str, modules: tuple[str, ...]) -> str:
    """Leave the arrays out of modules: what is read and written become ports of the top.

    Parameters
    ----------
    verilog : str
        The top module first, as SpinalHDL writes it: arrays with one writer and registered reads.
    modules : tuple of str
        Modules that lose their arrays, where they are there; each has one instance, in the top.
    """
    head = re.search(r"^module \w+ \(\n", verilog, re.M)
    if head is None:
        raise HalutError("Verilog of a processor must begin with a module and its list of ports")
    top_ports: list[_Port] = []
    for module in modules:
        match = re.search(rf"^module {module} \(\n.*?^endmodule\n", verilog, re.M | re.S)
        placed = re.search(rf"^  {module} \w+ \(\n", verilog, re.M)
        if match is None or placed is None:
            continue
        body, ports = _opened(match[0])
        joined = "".join(f"    .{port.name}({module}_{port.name}),\n" for port in ports)
        verilog = verilog.replace(match[0], body).replace(placed[0], placed[0] + joined, 1)
        top_ports += [replace(port, name=f"{module}_{port.name}") for port in ports]
    return verilog.replace(head[0], head[0] + "".join(port.text("") for port in top_ports), 1)


@dataclass(frozen=True)
class _Port:
    """A port in place of an array."""

    name: str
    bits: int
    is_input: bool = False

    def text(self, kind: str) -> str:
        """The port in a module's list; `kind` is what an output is besides."""
        way = "input" if self.is_input else f"output{kind}"
        return f"  {way} [{self.bits - 1}:0] {self.name},\n"


def _opened(module: str) -> tuple[str, list[_Port]]:
    """A module without its arrays, and the ports that it has in their place."""
    ports: list[_Port] = []
    names = []
    for array in _ARRAY.finditer(module):
        bits, address = int(array[1]) + 1, int(array[3]).bit_length()
        name = f"array_{array[2]}__"
        names.append(array[2])
        ports += [
            _Port(f"{name}q", bits, is_input=True),
            _Port(f"{name}read", address),
            _Port(f"{name}write", address + bits),
        ]

    def written(found: re.Match[str]) -> str:
        space, array, address, value = found.groups()
        if array not in names:
            return found[0]
        return f"{space}array_{array}__write <= {{{address}, {value}}};\n"

    def read(found: re.Match[str]) -> str:
        space, register, array, address = found.groups()
        if array not in names:
            return found[0]
        port = f"array_{array}__"
        return f"{space}{register} <= {port}q;\n{space}{port}read <= {address};\n"

    body = _WRITE.sub(written, _READ.sub(read, _ARRAY.sub("", module)))
    head = body.index("\n") + 1
    return body[:head] + "".join(port.text(" reg") for port in ports) + body[head:], ports


def _without_open_wires(verilog: str, folder: Path) -> str:
    """Tie wires that nothing drives to 0: SpinalHDL leaves some, which the flow refuses."""
    source, result = (folder / name for name in ("source.v", "tied.v"))
    write_text(source, verilog)
    script = (
        f"read_verilog {plain_path(source)}\nhierarchy -check -top VexRiscv\n"
        "proc\nopt_clean\nmemory\n"
        f"setundef -undriven -zero\nwrite_verilog -noattr {plain_path(result)}\n"
    )
    write_text(folder / "tie.ys", script)
    run_tool(find_yosys("pyosys"), [str(folder / "tie.ys")], folder / "yosys.log", cwd=folder)
    return result.read_text()


def processor(name: str, verilog: str, folder: Path) -> Design:
    """VexRiscv with flip-flops as its registers and without the arrays of its caches.

    It has no workload: it is mapped and timed only.

    Parameters
    ----------
    name : str
        For the table and for the folder of products.
    verilog : str
        As SpinalHDL wrote it.
    folder : Path
        For what becomes of it.
    """

    def workload(seed: int, n_transfers: int) -> Workload:
        raise HalutError(f"{name} must be measured without power ({seed}, {n_transfers})")

    open_arrays = without_arrays(verilog, ("DataCache", "InstructionCache"))
    return Design(
        name=name,
        slug=name,
        verilog=_without_open_wires(open_arrays, folder.resolve()),
        top="VexRiscv",
        clock="clk",
        reset="reset",
        look_ups_per_cycle=0,
        macs_per_cycle=0,
        codebook_width=None,
        latency_cycles=1,
        interval_cycles=1,
        config_hash=hashlib.sha256(verilog.encode()).hexdigest(),
        workload=workload,
    )
