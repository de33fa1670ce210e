"""Direct engines: exact integer products with multipliers, the peers of the look-up engine.

They are what a user would build instead, made as well as the look-up engine: Booth-recoded
multipliers with carry-save trees, one carry-propagate adder per sum, pipeline cuts placed by the
number of adder levels, enabled registers only.
"""

from .config import DotProductConfig, EngineConfig, StoredMatrixConfig, SystolicConfig
from .generate import generate, write

__all__ = [
    "DotProductConfig",
    "EngineConfig",
    "StoredMatrixConfig",
    "SystolicConfig",
    "generate",
    "write",
]
