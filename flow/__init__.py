"""From Verilog to area, timing and energy: synthesis, static timing, netlist simulation, reports.

``python -m flow synth --config configs/small.yaml --platform nangate45 --clock-ns 6`` runs all of
it; ``python -m flow --help`` lists the rest. Every tool is looked for when it is needed, and what
does not need it goes on working.
"""
