"""The commands of ``python -m halut``: one module each, with its flags and what it does."""
