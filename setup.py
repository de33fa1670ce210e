"""Builds the native kernels into wheels, where there is a C compiler; the rest: pyproject.toml.

An editable installation builds nothing: the source tree does, at the first use (docs/kernels.md).
"""

import os
import runpy
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDER = "halut/native"
sources = runpy.run_path(os.path.join(FOLDER, "sources.py"))


class BuildUnlessEditable(build_ext):
    """`build_ext`, but for editable installations."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.editable_mode:
            self.extensions = []


kernels: dict[str, Any] = {
    "sources": [f"{FOLDER}/{name}" for name in sources["SOURCES"]],
    "depends": [f"{FOLDER}/{name}" for name in sources["INCLUDED"]],
    "define_macros": [("HALUT_SOURCES", f'"{sources["fingerprint"]()}"')],
    "extra_compile_args": list(sources["FLAGS"]),
    "libraries": list(sources["LIBRARIES"]),
    # A compiler that is missing or fails leaves NumPy to compute.
    "optional": True,
}
setup(
    ext_modules=[Extension("halut.native._kernels", **kernels)],
    cmdclass={"build_ext": BuildUnlessEditable},
)
