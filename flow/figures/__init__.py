"""Metrics: names, units, provenance."""
