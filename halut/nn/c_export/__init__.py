"""A trained network as C99 for small processors: tables, thresholds and a schedule of buffers.

`export_c` writes a folder that builds and tests itself; ``python -m halut export --c`` calls it.
"""
