"""FPGA: a design on a part, or as a bitstream that tests itself on a board."""
