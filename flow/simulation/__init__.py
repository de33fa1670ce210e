"""Simulation of netlists, with delays where the simulator has them."""
