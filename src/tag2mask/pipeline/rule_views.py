"""Which maps of a run are another view of the same: fewer scales, no mirror. Agreement compares the two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tag2mask.inference.settings import PyramidSettings
from tag2mask.pipeline.plan import PlannedStage, make_plan
from tag2mask.pipeline.runfolder import RunFolder


def view_of(stage: PlannedStage, stages: Sequence[PlannedStage]) -> PlannedStage | None:
    """The stage that makes the same maps from the fewest views (scales and mirror); None where none has fewer.

    Args:
        stage: of maps.
        stages: of the same run.
    """
    fewer = [s for s in stages if _views(s) < _views(stage) and _but_views(s) == _but_views(stage)]
    return min(fewer, key=_views, default=None)


def _views(stage: PlannedStage) -> int:
    settings = stage.settings
    return len(settings.scales) * (1 + settings.mirror) if isinstance(settings, PyramidSettings) else 0


def _but_views(stage: PlannedStage) -> object:
    settings = stage.settings.model_dump(exclude=set(PyramidSettings.model_fields))
    return stage.kind.name, dict(stage.reads), stage.seed, settings


def without_views(runs: Sequence[Path]) -> list[str]:
    """Every stage of maps of some runs that is no view of another."""
    found: dict[str, None] = {}
    for run in runs:
        stages = [s for s in make_plan(RunFolder.existing(run).recipe()).stages if s.kind.makes == "maps"]
        views = {view.name for s in stages if (view := view_of(s, stages))}
        found |= {s.name: None for s in stages if s.name not in views}
    return list(found)
