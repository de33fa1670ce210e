"""The custom function unit, and the processor that it stands beside, as designs for the flow."""

from __future__ import annotations

import hashlib
import re
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
    top_ports = []
    for module in modules:
        match = re.search(rf"^module {module} \(\n(.*?)^endmodule\n", verilog, re.M | re.S)
        placed = re.search(rf"^  {module} \w+ \(\n", verilog, re.M)
        if match is None or placed is None:
            continue
        ports: list[tuple[str, int, bool]] = []  # name, bits, whether an input
        body = _ARRAY.sub(
            lambda array: _array_ports(array, ports), match[0]
        )
        names = {name.removeprefix("array_").rsplit("__", 1)[0] for name, _, _ in ports}
        widths = {name: bits for name, bits, _ in ports}

        def written(found: re.Match[str], names: set[str] = names) -> str:
            space, array, address, value = found.groups()
            if array not in names:
                return found[0]
            return f"{space}array_{array}__write <= {{{address}, {value}}};\n"

        def read(found: re.Match[str], names: set[str] = names) -> str:
            space, register, array, address = found.groups()
            if array not in names:
                return found[0]
            port = f"array_{array}__"
            return f"{space}{register} <= {port}q;\n{space}{port}read <= {address};\n"

        body = _WRITE.sub(written, _READ.sub(read, body))
        declared = "".join(
            f"  {'input' if is_input else 'output reg'} [{widths[name] - 1}:0] {name},\n"
            for name, _, is_input in ports
        )
        body = body.replace(f"module {module} (\n", f"module {module} (\n{declared}", 1)
        verilog = verilog.replace(match[0], body)
        joined = "".join(f"    .{name}({module}_{name}),\n" for name, _, _ in ports)
        verilog = verilog.replace(placed[0], placed[0] + joined, 1)
        top_ports += [(f"{module}_{name}", bits, is_input) for name, bits, is_input in ports]
    listed = "".join(
        f"  {'input' if is_input else 'output'} [{bits - 1}:0] {name},\n"
        for name, bits, is_input in top_ports
    )
    return verilog.replace(head[0], head[0] + listed, 1)


def _array_ports(array: re.Match[str], ports: list[tuple[str, int, bool]]) -> str:
    """Note the ports of an array in place of its declaration."""
    bits, depth = int(array[1]) + 1, int(array[3]) + 1
    address = (depth - 1).bit_length()
    ports += [
        (f"array_{array[2]}__q", bits, True),
        (f"array_{array[2]}__read", address, False),
        (f"array_{array[2]}__write", address + bits, False),
    ]
    return ""


def _without_open_wires(verilog: str, folder: Path) -> str:
    """Tie wires that nothing drives to 0: SpinalHDL leaves some, which the flow refuses."""
    source, result = (folder / name for name in ("source.v", "tied.v"))
    write_text(source, verilog)
    script = (
        f"read_verilog {plain_path(source)}\nhierarchy -check -top VexRiscv\nproc\nopt_clean\nmemory\n"
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
