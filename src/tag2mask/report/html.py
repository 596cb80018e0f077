"""Templates to HTML: one environment, everything escaped, no page that needs another file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tag2mask.core.files import megabytes, write_text
from tag2mask.core.names import printable
from tag2mask.core.progress import duration
from tag2mask.report.pictures import data_uri
from tag2mask.report.scores import percent

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, out: Path, **values: Any) -> None:
    """Fill ``templates/<template>`` and write it, whole or not at all; marks that turn text around are seen in it."""
    write_text(out, printable(_environment().get_template(template).render(**values)))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tag2mask.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, duration=duration, megabytes=megabytes, uri=data_uri)
    return environment
