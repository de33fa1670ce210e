"""Static timing: our graph, which sizing works with, and OpenSTA."""
