"""Simulations of `halut_axi`: what the testbench is given, and the rules that a bus obeys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from halut.program import Program
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.generate import generate_axi
from sim import runner
from sim.simulation import kept_verilog
from sim.streams import ProtocolError

__all__ = ["AxiRules", "build_axi", "write_job"]

_BOUNDARY = 4096
_CHANNELS = {
    "ar": ("araddr", "arlen", "arsize", "arburst", "arid"),
    "aw": ("awaddr", "awlen", "awsize", "awburst", "awid"),
    "w": ("wdata", "wstrb", "wlast"),
}


def build_axi(
    config: AxiConfig, *, simulator: str | None = None, waves: bool | None = None
) -> runner.Build:
    """Build the simulation of a block; its Verilog is generated, or kept from an earlier run."""
    verilog = kept_verilog("halut_axi", config.to_dict(), lambda: generate_axi(config).verilog)
    return runner.build(verilog, "halut_axi", simulator=simulator, waves=waves)


def write_job(
    folder: Path,
    config: AxiConfig,
    program: Program,
    words: NDArray[np.integer],
    expected: NDArray[Any],
    **files: str,
) -> None:
    """Write what `sim.benches.axi` reads.

    Parameters
    ----------
    folder : pathlib.Path
        The environment's ``HALUT_JOB``.
    config : AxiConfig
    program : Program
    words : ndarray of shape (n_rows, C, T), or (images, height, width, channels)
        What goes in.
    expected : ndarray of shape (n_rows, n_outputs)
        What must come out.
    **files : str
        Other text files by their names.
    """
    (folder / "job.json").write_text(json.dumps(config.to_dict()))
    program.save(folder / "program.npz")
    np.save(folder / "words.npy", words)
    np.save(folder / "expected.npy", expected)
    for name, text in files.items():
        (folder / name).write_text(text)


class AxiRules:
    """Watches an AXI4 master, cycle by cycle.

    Valid stays until ready, and what it offers stays as it is; bursts increment, do not cross 4 kB
    and are not longer than allowed; a write has as many words as it announced, the last one is
    marked, and no word comes before its address was offered.

    Parameters
    ----------
    dut : cocotb handle
    config : AxiConfig

    Attributes
    ----------
    moved : dict of str to int
        Transfers of every channel so far.
    most_reads : int
        Most reads that were open at a time.
    """

    def __init__(self, dut: Any, config: AxiConfig) -> None:
        self.dut = dut
        self.config = config
        self.moved = dict.fromkeys(("ar", "r", "aw", "w", "b"), 0)
        self.most_reads = 0
        self._reads = 0
        self._forget()

    def _forget(self) -> None:
        self._pending: dict[str, tuple[int, ...]] = {}
        self._bursts: list[int] = []
        self._beat = 0
        self._reads = 0

    def _value(self, name: str) -> int:
        return int(getattr(self.dut, f"m_axi_{name}").value)

    async def run(self) -> None:
        """Watch for ever; start it with ``cocotb.start_soon``."""
        edge = RisingEdge(self.dut.clk_i)
        while True:
            await edge
            if not int(self.dut.rst_ni.value):
                self._forget()
                continue
            for channel, names in _CHANNELS.items():
                self._watch(channel, names)
            for channel in ("r", "b"):
                if self._value(f"{channel}valid") and self._value(f"{channel}ready"):
                    self.moved[channel] += 1
                    if channel == "r" and self._value("rlast"):
                        self._reads -= 1

    def _watch(self, channel: str, names: tuple[str, ...]) -> None:
        valid = self._value(f"{channel}valid")
        item = tuple(self._value(name) for name in names) if valid else ()
        before = self._pending.pop(channel, None)
        if before is not None and item != before:
            raise ProtocolError(f"m_axi_{channel}: {before} must stay until taken, not be {item}")
        if not valid:
            return
        if channel == "aw" and before is None:
            self._bursts.append(item[1] + 1)
        if channel == "w" and before is None and not self._bursts:
            raise ProtocolError("m_axi_w: a word must come after its address was offered")
        if not self._value(f"{channel}ready"):
            self._pending[channel] = item
            return
        self.moved[channel] += 1
        if channel == "w":
            self._beat += 1
            if item[2] != (self._beat == self._bursts[0]):
                raise ProtocolError(
                    f"m_axi_wlast must mark word {self._bursts[0]}, not word {self._beat}"
                )
            if item[2]:
                self._bursts.pop(0)
                self._beat = 0
            return
        if channel == "ar":
            self._reads += 1
            self.most_reads = max(self.most_reads, self._reads)
        self._burst(channel, *item)

    def _burst(self, channel: str, address: int, length: int, size: int, kind: int, _: int) -> None:
        c = self.config
        n_bytes = (length + 1) << size
        if 1 << size != c.word_bytes or kind != 1:
            raise ProtocolError(f"m_axi_{channel}: whole words must increment, not {size}, {kind}")
        if length >= c.burst_beats or address % c.word_bytes:
            raise ProtocolError(f"m_axi_{channel}: burst of {length + 1} words at {address:#x}")
        if address // _BOUNDARY != (address + n_bytes - 1) // _BOUNDARY:
            raise ProtocolError(
                f"m_axi_{channel}: no burst may cross 4 kB, as {n_bytes} bytes at {address:#x} do"
            )
