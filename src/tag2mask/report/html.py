"""Templates to HTML: one environment, everything escaped, no page that needs another file."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tag2mask.core.files import write_text
from tag2mask.core.progress import duration
from tag2mask.report.pictures import data_uri

if TYPE_CHECKING:
    from jinja2 import Environment

PERCENT_DIGITS = 1


def render(template: str, out: Path, **values: Any) -> None:
    """Fill ``templates/<template>`` and write it, whole or not at all.

    Raises:
        StageError: the file cannot be written.
    """
    write_text(out, _environment().get_template(template).render(**values))


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
    environment.filters.update(percent=percent, duration=duration, uri=data_uri)
    return environment


def percent(value: float) -> str:
    """A percentage as it stands in a table; a dash where it is undefined."""
    return "–" if math.isnan(value) else f"{value:.{PERCENT_DIGITS}f}"
