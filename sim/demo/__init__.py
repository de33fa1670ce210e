"""The demo: real images -> learned tables -> Verilog -> simulation, every output bit checked.

``python -m sim.demo`` (``make demo``) classifies handwritten digits and filters photographs, both
bundled with scikit-learn, on simulated accelerators, and writes a page of pictures.
"""
