"""The commands of ``python -m rtl_gen``: one module each, with its flags and what it does."""
