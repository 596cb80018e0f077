"""What ``tag2mask show`` gives for each shipped recipe, one file each in the folder of this module's name.

``python -m tests.pipeline.resolved_recipes NAME …`` writes those of new recipes, and those whose values shall change.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tag2mask.config.recipe import dump_recipe, load_recipe
from tag2mask.pipeline.plan import make_plan

FOLDER = Path(__file__).with_suffix("")


def resolved(name: str) -> str:
    """A recipe with every default filled in, as YAML."""
    return dump_recipe(make_plan(load_recipe(name)).recipe)


def recorded() -> dict[str, Path]:
    """The recorded recipes by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def differences(then: Any, now: Any, where: str = "") -> Iterator[str]:
    """Where two resolved recipes differ, in the order of their settings; 1 and 1.0 do: a stage's key takes them apart.

    The order of the stages is the order in which they are made, and counts; that of the settings does not.
    """
    if isinstance(then, dict) and isinstance(now, dict):
        if where == "stages" and list(then) != list(now):
            yield f"the order of the stages was {list(then)}, is {list(now)}"
        for key in dict.fromkeys([*then, *now]):
            path = f"{where}.{key}".removeprefix(".")
            if key not in now:
                yield f"{path} = {then[key]!r} is missing"
            elif key not in then:
                yield f"{path} = {now[key]!r} is new"
            else:
                yield from differences(then[key], now[key], path)
    elif repr(then) != repr(now):
        yield f"{where} was {then!r}, is {now!r}"


def main() -> None:
    """Record the named recipes as they are now."""
    for name in sys.argv[1:]:
        (FOLDER / f"{name}.yaml").write_text(resolved(name), encoding="utf-8")


if __name__ == "__main__":
    main()
