"""Transfers of bytes as words of the bus, and as bursts: what both directions share."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Mux, Value
from amaranth.lib import data

from .config import AxiConfig

__all__ = ["burst_beats", "transfer_command", "word_payload", "words_of"]


def transfer_command(config: AxiConfig) -> data.StructLayout:
    """Payload of a command: a byte address, and a number of bytes that is not 0."""
    return data.StructLayout({"address": config.address_bits, "bytes": 32})


def word_payload(config: AxiConfig) -> data.StructLayout:
    """Payload of a word of a transfer: all bytes count but in the `last` word, where `bytes` do."""
    n = config.word_bytes
    return data.StructLayout({"data": 8 * n, "bytes": range(n + 1), "last": 1})


def words_of(config: AxiConfig, command: Any) -> Value:
    """Words of the bus that hold a command's bytes; first and last may hold others, too."""
    shift = config.word_bytes.bit_length() - 1
    total: Value = command.address[:shift] + command.bytes + (config.word_bytes - 1)
    return total[shift:]


def burst_beats(config: AxiConfig, place: Value, left: Value) -> Value:
    """Beats of the next burst: it ends at a multiple of the longest one, so none crosses 4 kB."""
    bits = config.burst_beats.bit_length()
    whole = Const(config.burst_beats, bits) - place[: bits - 1]
    return Mux(left < whole, left, whole)
