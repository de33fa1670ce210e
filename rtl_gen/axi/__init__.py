"""An accelerator as a block of a system: registers, bus master, descriptors in memory."""
