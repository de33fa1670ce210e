from dataclasses import replace

import pytest

from flow.designs.design import accelerator
from halut.errors import HalutError
from rtl_gen import AcceleratorConfig, generate


def test_a_design_with_a_prefix_is_refused():
    """Its clock gates would silently be made of latches and gates."""
    config = AcceleratorConfig(n_codebooks=2, n_prototypes=2, n_outputs=1)
    design = accelerator(config)
    prefixed = generate(config, prefix="a_").verilog
    assert "module a_halut_clock_gate" in prefixed
    with pytest.raises(HalutError, match=r"must be halut_clock_gate, .* not a_halut_clock_gate"):
        replace(design, verilog=prefixed, top="a_halut_matmul")
