"""Runs of the flow as one self-contained HTML page.

`runs` reads what a run left behind, `schematic`, `waveform` and `charts` draw it, `accuracy` says
what a program is worth, and `page` puts everything into one file that needs no network.
"""
