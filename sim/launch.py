"""Runs one step of cocotb's runner in a process of its own: ``python -m sim.launch JOB.json``.

`sim.runner` starts it, so that a step can be given a time limit and a simulator that hangs or
crashes takes nothing with it. The job names the simulator, the step ("build" or "test"), the
arguments of that step and, for Verilator, cocotb's folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    from cocotb_tools import config
    from cocotb_tools.runner import get_runner

    if "cocotb" in job:
        # Its own paths may hold spaces, which Verilator's makefile cannot take.
        config.share_dir = Path(job["cocotb"]) / "share"
        config.libs_dir = Path(job["cocotb"]) / "libs"
    runner = get_runner(job["simulator"])
    arguments = job["arguments"]
    if arguments.get("timescale"):
        arguments["timescale"] = tuple(arguments["timescale"])
    if job["step"] == "build":
        runner.build(**arguments)
    else:
        runner.test(**arguments)


if __name__ == "__main__":
    main()
