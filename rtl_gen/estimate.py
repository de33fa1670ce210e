"""What generating takes, before it starts.

The words of one look-up table of a decoder, C/Q * K of them, decide: Yosys' memory grows with their
square. Nothing here is exact: the coefficients are those of a few measured configurations.
"""

from __future__ import annotations

import logging

from halut.memory import check_available

from .config import AcceleratorConfig
from .tiled_config import AnyConfig

__all__ = ["check_size", "generation_bytes", "generation_seconds"]

log = logging.getLogger(__name__)

_LONG_S = 60.0


def _words(config: AnyConfig) -> int:
    """Words of one look-up table that are selected one-hot; none in RAMs."""
    unit = config if isinstance(config, AcceleratorConfig) else config.unit
    return 0 if unit.numbered_tables else unit.stored_groups * unit.n_prototypes


def generation_bytes(config: AnyConfig) -> int:
    """Estimate the memory that generating takes at its peak, in bytes.

    Within a factor of 2 of the largest process for 256 to 8192 words of a table: 0.15, 0.36 and
    4.7 GB were measured for 256, 2048 and 8192.
    """
    return 150 * 10**6 + 65 * _words(config) ** 2


def generation_seconds(config: AnyConfig) -> float:
    """Estimate the processor time of generating, in seconds.

    Within a factor of 2 for 256 to 8192 words of a table on one core: 2.8, 18 and 174 s were
    measured for 256, 2048 and 8192.
    """
    words = _words(config)
    return 1.5 + 7e-3 * words + 1.6e-6 * words**2


def check_size(config: AnyConfig) -> None:
    """Refuse what would not fit this machine's memory, and warn of what takes minutes.

    Raises
    ------
    HalutError
        When the estimate is more than the memory that is available.
    """
    needed = generation_bytes(config)
    doing = f"generate a table of {_words(config)} words (C / Q * K)"
    check_available(needed, doing, f"configuration {config.name}")
    seconds = generation_seconds(config)
    if seconds > _LONG_S:
        log.warning(
            "generating takes about %.2g minutes and %.2g GB (estimated)",
            seconds / 60,
            needed / 1e9,
        )
