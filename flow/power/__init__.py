"""Power and energy from simulated activity."""
