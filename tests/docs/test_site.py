"""The documentation site builds without a warning, and a browser loads nothing for it."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.needs("sphinx")
# What a browser loads by itself. A link that a reader follows may lead anywhere.
LOADED = {"src", "srcset", "poster", "data"}


class Resources(HTMLParser):
    """Collects the addresses of what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in LOADED or (tag == "link" and name == "href"):
                self.found.append(value or "")


def foreign(text: str) -> list[str]:
    """Addresses in a page or a style sheet that are loaded from elsewhere."""
    parser = Resources()
    parser.feed(text)
    found = parser.found + re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", text)
    return [address for address in found if re.match(r"(https?:)?//", address)]


def build(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "docs/site/build.py", "-o", str(folder), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"wrote {folder / 'index.html'}"


def check(folder: Path) -> None:
    pages = list(folder.rglob("*.html"))
    assert len(pages) > 20
    for path in [*pages, *folder.rglob("*.css")]:
        assert foreign(path.read_text()) == [], path


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/x.css">',
        "@import 'http://fonts.example/x.css';",
        "body { background: url(https://example/x.png) }",
    ],
)
def test_what_is_loaded_from_elsewhere_is_found(text: str) -> None:
    assert foreign(text)
    assert not foreign('<a href="https://example.org">elsewhere</a><img src="_images/x.png">')


def test_pages(tmp_path: Path) -> None:
    """README and docs/*.md: every link leads somewhere, every page is in the side bar."""
    build(tmp_path / "site", "--no-api")
    check(tmp_path / "site")


@pytest.mark.slow
def test_all(tmp_path: Path) -> None:
    """The pages of packages, too: each public name is there."""
    build(tmp_path / "site")
    check(tmp_path / "site")
    for package, name in (
        ("halut", "halut.matmul.HalutMatmul"),
        ("halut.nn", "halut.nn.convert.convert_"),
        ("rtl_gen", "rtl_gen.config.AcceleratorConfig"),
        ("sim", "sim.simulation.simulate"),
        ("flow.timing", "flow.timing"),
    ):
        page = (tmp_path / "site" / "docs" / "api" / f"{package}.html").read_text()
        assert f'id="{name}"' in page or f'id="module-{name}"' in page
