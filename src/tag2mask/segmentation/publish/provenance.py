"""The provenance of a network, as it travels with the network and stands in its card."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from tag2mask.config.recipe import Recipe
from tag2mask.core.errors import StageError, WeightsError
from tag2mask.core.links import resuming
from tag2mask.core.names import SEED_MARK
from tag2mask.core.progress import LOG
from tag2mask.evaluation.result_tables import read_metrics

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Number:
    """One mIoU that a run measured with the network.

    Attributes:
        stage: that made the predictions, such as ``predictions-crf``.
        split: measured on.
        n_images: counted.
        miou: percent, or None where undefined.
        seed: of the run.
        how: scales, mirror and CRF in words.
        miou_foreground: percent, the mean over the classes; None where undefined or not measured.
        f1_foreground: likewise, of F1.
    """

    __pydantic_config__ = _STRICT

    stage: str
    split: str
    n_images: int
    miou: float | None
    seed: int
    how: str
    miou_foreground: float | None = None
    f1_foreground: float | None = None


@dataclass(frozen=True)
class Provenance:
    """What is known of a network's training; all empty for one of unknown origin.

    Attributes:
        recipe: name of the recipe.
        stage: that trained it.
        seed: of the training; None where unknown.
        data: kind of the data and the split that trained, no path.
        n_images: it was trained on; None where unknown.
        initial: the encoder's first weights: ``imagenet``, ``coco``, ``timm``, ``none``.
        ledger: supervision that it has seen.
        numbers: what was measured.
    """

    __pydantic_config__ = _STRICT

    recipe: str = ""
    stage: str = ""
    seed: int | None = None
    data: str = ""
    n_images: int | None = None
    initial: str = ""
    ledger: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()

    def text(self) -> dict[str, Any]:
        """As plain values, read again by `read_provenance`."""
        values: dict[str, Any] = TypeAdapter(Provenance).dump_python(self, mode="json")
        return values


def read_provenance(values: Mapping[str, Any], where: Path) -> Provenance:
    """An origin from plain values; the empty one from none."""
    try:
        return TypeAdapter(Provenance).validate_python(values)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{where} has an entry 'origin' that this version of tag2mask does not read: {error!s:.500}"
        ) from error


def provenance_of(
    run: Path, recipe: Recipe, stage: str, initial: str, manifest: Mapping[str, Any], chosen_by: Collection[str] = ()
) -> Provenance:
    """Where the network of a finished stage comes from, read from its run folder.

    ``stage`` has its seed in its name where there are several; ``chosen_by`` are stages that have chosen this network.
    """
    name, _, seed = stage.partition(SEED_MARK)
    n_images, seen = manifest.get("n_images"), manifest.get("ledger")
    split = recipe.stages[name].get("split") or recipe.data.get("train") or "train"
    return Provenance(
        recipe=recipe.name,
        stage=stage,
        seed=int(seed) if seed else recipe.seeds[0],
        data=f"{recipe.data.get('kind')}, split {split}",
        n_images=n_images if isinstance(n_images, int) else None,
        initial=initial,
        ledger=tuple(map(str, seen)) if isinstance(seen, list) else (),
        numbers=tuple(_numbers(run, recipe, {name, *chosen_by}, seed)),
    )


def _numbers(run: Path, recipe: Recipe, names: set[str], seed: str) -> list[Number]:
    path = run / "metrics.jsonl"
    try:
        rows = read_metrics(path) if path.is_file() else []
    except StageError as error:
        LOG.warning("%s. The card of the network has no measured numbers; write them again: %s", error, resuming(run))
        return []
    makers = {k: v for k, v in recipe.stages.items() if names & {*(v.get("reads") or {}).values()}}
    measured = [(row, *row.stage.partition(SEED_MARK)) for row in rows if row.metric == "miou"]
    beside = {(r.stage, r.split, r.metric): r.value for r in rows}
    return [
        Number(
            row.stage,
            row.split,
            row.n_images,
            row.value,
            row.seed,
            how(makers[name]),
            *(beside.get((row.stage, row.split, metric)) for metric in ("miou_foreground", "f1_foreground")),
        )
        for row, name, _, own in measured
        if name in makers and own == seed
    ]


def how(settings: Mapping[str, Any]) -> str:
    """How predictions were made, in words: ``scales 0.75 1 1.25, mirror, CRF deeplabv2``, or ``single scale``."""
    scales = tuple(settings.get("scales") or (1.0,))
    words = ["single scale" if scales == (1.0,) else "scales " + " ".join(f"{s:g}" for s in scales)]
    fit = settings.get("fit")
    words += [f"fitted into {fit[0]} x {fit[1]}"] if fit else []
    words += ["mirror"] if settings.get("mirror") else []
    words += [f"CRF {settings['crf']}"] if settings.get("crf") else []
    return ", ".join(words)
