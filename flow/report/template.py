"""Pages whose text is in files (Markdown, HTML), with what was measured put into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flow.report import conditions
from flow.report.table import number
from halut.errors import HalutError

__all__ = ["PAGES", "render"]

PAGES = Path(__file__).parent / "pages"


def render(template: Path, **values: Any) -> str:
    """The text of a page; HTML is escaped, a value that is missing is an error."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise HalutError("jinja2 must be installed for pages: pip install -e .[flow]") from None
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=template.suffix == ".html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=template.suffix == ".md",
    )
    environment.filters["figure"] = number
    for name in ("commit", "corner", "tools"):
        environment.globals[name] = getattr(conditions, name)
    return environment.get_template(template.name).render(**values)
