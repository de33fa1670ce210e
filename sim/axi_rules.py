"""The rules that an AXI4 master obeys, watched in a simulation."""

from __future__ import annotations

from typing import Any

from cocotb.triggers import RisingEdge

from rtl_gen.axi.config import AxiConfig
from sim.streams import ProtocolError

__all__ = ["AxiRules"]

_BOUNDARY = 4096
_CHANNELS = {
    "ar": ("araddr", "arlen", "arsize", "arburst", "arid"),
    "aw": ("awaddr", "awlen", "awsize", "awburst", "awid"),
    "w": ("wdata", "wstrb", "wlast"),
}


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
