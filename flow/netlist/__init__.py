"""Netlists, and the synthesis that makes them."""
