"""Builds the documentation site: README, docs/*.md, and a page per package. Warnings are errors.

``make docs`` installs the extra `docs` and runs this. Sphinx works on a copy of the pages, since it
writes the pages of packages beside them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Pages, and the files that they link to.
COPIED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "CITATION.cff",
    "configs",
    "docs",
)
START = """<!doctype html>
<title>halut-stack</title>
<meta http-equiv="refresh" content="0; url=README.html">
"""


def build(output: Path, *options: str) -> int:
    """Build the site to `output` with further `options` of Sphinx; returns its exit status."""
    from sphinx.cmd.build import main as sphinx

    pages = output.with_name(f"{output.name}.pages")
    shutil.rmtree(pages, ignore_errors=True)
    if (output / "objects.inv").exists():  # of an earlier site, whose modules may be gone
        shutil.rmtree(output)
    pages.mkdir(parents=True)
    for name in COPIED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, pages / name)
        else:
            shutil.copy2(path, pages / name)
    sys.path.insert(0, str(ROOT))
    site = ROOT / "docs" / "site"
    status = sphinx(
        ["-W", "--keep-going", "-q", "-c", str(site), *options, str(pages), str(output)]
    )
    if status == 0:
        (output / "index.html").write_text(START)
        print(f"wrote {output / 'index.html'}")
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="docs/site/build.py", description="Build the site.")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/docs"), metavar="DIR",
        help="folder of the site (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--no-api", action="store_true", help="leave the pages of packages out")
    arguments = parser.parse_args(argv)
    return build(arguments.output, *(["-t", "no_api"] if arguments.no_api else []))


if __name__ == "__main__":
    sys.exit(main())
