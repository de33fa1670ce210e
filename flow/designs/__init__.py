"""What is measured: accelerators, exact engines, convolutions, as Verilog with a workload."""
