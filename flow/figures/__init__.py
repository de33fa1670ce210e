"""Metrics: names, units, provenance, and what the steps of a run found."""
