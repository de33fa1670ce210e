"""The configuration of an accelerator's bus interface, and what lies in memory because of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from halut.checks import known, mapping
from halut.errors import HalutError

from ..config import canonical_hash
from ..front_end import FrontEndConfig
from ..settings import check_settings, setting, settings_of
from ..tiled_config import AnyConfig, config_from_dict

__all__ = ["BUSES", "CONTROLS", "AxiConfig"]

BUSES = ("master", "stream")
CONTROLS = ("axi-lite", "wishbone")
WIDTHS = (32, 64, 128)
_MAX_BURST = 256
_OF_THE_MASTER = ("address_bits", "burst_beats", "outstanding")


def _power_of_two(name: str, value: int) -> None:
    if value & (value - 1):
        raise HalutError(f"{name} must be a power of two, not {value}")


@dataclass(frozen=True, kw_only=True)
class AxiConfig:
    """Parameters of `halut_axi`, the block around an accelerator.

    Parameters
    ----------
    core : AcceleratorConfig, TiledConfig or FrontEndConfig
        The accelerator: one unit, several, or behind a front end.
    bus : {"master", "stream"}
        How descriptors, programs, rows and results move: an AXI4 master reads and writes memory,
        or they come and leave as packets of two AXI4-Streams.
    control : {"axi-lite", "wishbone"}
        Bus of the registers.
    data_bits : int
        Width of the master or of the streams: 32, 64 or 128.
    address_bits : int
        Of the master: width of its addresses, 32 to 64. Descriptors hold 32 bits; a register holds
        the others.
    burst_beats : int
        Of the master: longest burst, a power of two up to 256.
    outstanding : int
        Of the master: bursts that may be on their way, a power of two up to 16. As many are
        buffered.

    Raises
    ------
    HalutError
        When a value breaks its rule.

    Examples
    --------
    >>> from rtl_gen.config import AcceleratorConfig
    >>> config = AxiConfig(core=AcceleratorConfig(n_codebooks=16, n_outputs=8))
    >>> config.item_bytes, config.result_bytes, config.program_word_bytes
    (128, 16, 8)
    """

    core: AnyConfig | FrontEndConfig
    bus: str = setting("master", "--bus", "how rows and results move: {}", choices=BUSES)
    control: str = setting("axi-lite", "--control", "bus of the registers: {}", choices=CONTROLS)
    data_bits: int = setting(
        64, "--data-bits", "width of the master or of the streams: 32, 64 or 128", within=(32, 128)
    )
    address_bits: int = setting(
        32, "--address-bits", "width of the master's addresses", within=(32, 64)
    )
    burst_beats: int = setting(
        16, "--burst-beats", "longest burst, a power of two", within=(2, _MAX_BURST)
    )
    outstanding: int = setting(
        4, "--outstanding", "bursts on their way, a power of two", within=(1, 16)
    )

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("data_bits", "burst_beats", "outstanding"):
            _power_of_two(name, getattr(self, name))
        for name in _OF_THE_MASTER if self.bus == "stream" else ():
            value = getattr(self, name)
            if value != getattr(AxiConfig, name):
                raise HalutError(
                    f"{name} must be left out for streams, which have no bursts and no addresses, "
                    f"not {value}"
                )

    # The accelerator

    @property
    def accelerator(self) -> AnyConfig:
        """The accelerator, without its front end."""
        return self.core.accelerator if isinstance(self.core, FrontEndConfig) else self.core

    @property
    def has_front_end(self) -> bool:
        """Whether pixels go in."""
        return isinstance(self.core, FrontEndConfig)

    @property
    def gathers(self) -> bool:
        """Whether there is a front end whose split dimensions are loaded."""
        return isinstance(self.core, FrontEndConfig) and self.core.gathers

    @property
    def double_buffer(self) -> bool:
        """Whether two programs are stored."""
        return "switch" in self.accelerator.address_fields

    # What lies in memory

    @property
    def word_bytes(self) -> int:
        """Bytes of a word of the bus."""
        return self.data_bits // 8

    @property
    def input_elements(self) -> int:
        """Values of one input transfer: of P rows and Q codebooks, or of a pixel."""
        a = self.accelerator
        if isinstance(self.core, FrontEndConfig):
            return self.core.channels
        return a.rows * a.parallel_codebooks * a.n_values

    @property
    def input_element_bytes(self) -> int:
        """Bytes of an input value: 1, or 2 of more than 8 bits."""
        return -(-self.accelerator.input_bits // 8)

    @property
    def input_bytes(self) -> int:
        """Bytes of an input transfer."""
        return self.input_elements * self.input_element_bytes

    @property
    def item_transfers(self) -> int:
        """Input transfers of an item: of a row group, or the pixels of an image."""
        if isinstance(self.core, FrontEndConfig):
            return self.core.height * self.core.width
        return self.accelerator.n_groups

    @property
    def item_bytes(self) -> int:
        """Bytes that go in for an item: a row group (P rows), or an image."""
        return self.item_transfers * self.input_bytes

    @property
    def item_groups(self) -> int:
        """Row groups of an item: 1, or those of an image."""
        if isinstance(self.core, FrontEndConfig):
            return self.core.height * self.core.width // self.accelerator.rows
        return 1

    @property
    def result_element_bytes(self) -> int:
        """Bytes of a result: 1, 2 or 4; the sign fills what a result leaves."""
        return next(n for n in (1, 2, 4) if 8 * n >= self.accelerator.result_bits)

    @property
    def beat_bytes(self) -> int:
        """Bytes of an output transfer."""
        return self.accelerator.output_width * self.result_element_bytes

    @property
    def result_bytes(self) -> int:
        """Bytes of an item's results."""
        return self.item_groups * self.accelerator.n_beats * self.beat_bytes

    @property
    def program_word_bytes(self) -> int:
        """Bytes of a program word, a multiple of 4."""
        return -(-self.accelerator.program_data_bits // 32) * 4

    @property
    def core_cycles(self) -> int:
        """Cycles that the accelerator needs for an item when nothing stalls."""
        if isinstance(self.core, FrontEndConfig):
            return self.core.image_cycles
        return self.accelerator.interval_cycles

    # Identity

    @property
    def core_hash(self) -> str:
        """SHA-256 (hex) of the accelerator's configuration: what programs and rows depend on."""
        return self.core.hash

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON; the accelerator's below ``core``."""
        own = {field.name: getattr(self, field.name) for field, _ in settings_of(self)}
        return {**own, "core": self.core.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AxiConfig:
        """Build from what `to_dict` returned."""
        rest = mapping("a configuration", values)
        core = mapping("core", rest.pop("core", {}))
        known("a field", rest, [field.name for field, _ in settings_of(cls)])
        has_front_end = "accelerator" in core
        made = FrontEndConfig.from_dict(core) if has_front_end else config_from_dict(core)
        return cls(core=made, **rest)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the whole configuration as canonical JSON."""
        return canonical_hash(self.to_dict())

    @property
    def slug(self) -> str:
        """File-system name."""
        bus = f"axi_{self.bus}" + ("_wishbone" if self.control == "wishbone" else "")
        sizes = f"d{self.data_bits}"
        if self.bus == "master":
            sizes += f"_a{self.address_bits}_b{self.burst_beats}_o{self.outstanding}"
        return f"{bus}_{sizes}_{self.core.slug}"
