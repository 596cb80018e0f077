"""The stage that chooses a threshold on a few hand-made masks, and which images these are."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tag2mask.config.settings import Settings
from tag2mask.core.errors import ConfigError, DataError, nearest
from tag2mask.core.files import need_regular, value_hash
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.methods.registry import StageKind
from tag2mask.methods.thresholds.rules import RULE_KINDS


class FewMasksSettings(Settings):
    """Which hand-made masks a threshold is chosen on."""

    n: int = Field(default=100, ge=1, description="number of images; part of the ledger, and of the kind of threshold")
    images: Path | None = Field(
        default=None,
        description="text file with the n ids, one a line; null: the same n of a split, however often it is asked",
    )
    split: str | None = Field(default=None, description="a split of the data; null: the one whose maps were made")


def listed(settings: FewMasksSettings, dataset: Dataset) -> list[Sample]:
    """The images of the list, sorted by id.

    Without a file these are the n with the smallest hash of their id: every stage finds the same ones, and an image
    that is added to the data takes the place of one at most.

    Raises:
        DataError: there are fewer images with a truth than asked for, or the file names another image.
        ConfigError: the file does not hold n ids.
    """
    samples = _by_hash(settings, dataset) if settings.images is None else _by_name(settings.images, settings.n, dataset)
    return sorted(samples, key=lambda s: s.id)


def _by_hash(settings: FewMasksSettings, dataset: Dataset) -> list[Sample]:
    found: list[Sample] = []
    for sample in sorted(dataset.samples, key=lambda s: value_hash(["few-masks", s.id])):
        if _has_truth(dataset, sample):
            found.append(sample)
        if len(found) == settings.n:
            return found
    fewer = f"set n to {len(found)} or fewer" if found else "give masks"
    raise DataError(
        f"a threshold was to be chosen on {settings.n} masks, but {len(found)} images of split '{dataset.split}' have "
        f"one; {fewer}, or use a fixed threshold, which needs none"
    )


def _by_name(path: Path, n: int, dataset: Dataset) -> list[Sample]:
    try:
        ids = list(dict.fromkeys(need_regular(path).read_text(encoding="utf-8").split("\n")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"images = {path} cannot be read: {error}") from error
    ids = [name.strip() for name in ids if name.strip()]
    if len(ids) != n:
        raise ConfigError(f"images = {path} lists {len(ids)} ids, but n = {n}; set n={len(ids)}")
    by_id = {s.id: s for s in dataset.samples}
    for name in ids:
        if name not in by_id:
            near = nearest(name, by_id)
            hint = f"; did you mean '{near}'?" if near else ""
            raise DataError(f"{path} lists '{name}', but split '{dataset.split}' has no such image{hint}")
        if not _has_truth(dataset, by_id[name]):
            raise DataError(f"{path} lists '{name}', but this image has no truth; take another, or give its mask")
    return [by_id[name] for name in ids]


def _has_truth(dataset: Dataset, sample: Sample) -> bool:
    return sample.truth is not None or dataset.truth(sample) is not None


def _supervision(settings: Settings) -> frozenset[str]:
    assert isinstance(settings, FewMasksSettings)
    return frozenset({f"pixel-masks:threshold({settings.n})"})


KINDS = (
    StageKind(
        name="few-masks",
        makes="threshold",
        settings=FewMasksSettings,
        reads={"maps": "maps"},
        runner="tag2mask.methods.thresholds.stage:choose",
        supervision=_supervision,
        samples=listed,
    ),
    *RULE_KINDS,
)
