"""Standard-cell libraries: Liberty files, Boolean functions, platforms."""
