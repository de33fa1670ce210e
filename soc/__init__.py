"""A system on a chip in simulation: VexRiscv runs a network as C, with custom instructions too."""
