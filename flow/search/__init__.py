"""Spaces of configurations: sweeps, fronts, fits, estimates without synthesis."""
