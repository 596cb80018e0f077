"""What earlier runs have seen of images and masks, so that a file that has not changed is not looked at again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tag2mask.core.errors import StageError
from tag2mask.core.files import read_json, stamp, value_hash, write_json
from tag2mask.core.manifest import sealed, unsealed
from tag2mask.core.progress import LOG
from tag2mask.data.base import Dataset, Finding
from tag2mask.data.doctor.checks import Key, Look, each_once
from tag2mask.data.doctor.files import Pixels
from tag2mask.pipeline.plan import Plan

_SCHEMA = 1
"""Raise it when a look finds more than before: what earlier ones found is forgotten then."""
_SPLITS = {"train", "val", "infer"}
"""Settings that say which images are looked at, but not what is seen of one."""


class Looked:
    """A memory of looks, one for each data set and each way of reading it.

    Args:
        store: folder of the store.
        plan: of the run.
        opened: its splits.
    """

    def __init__(self, store: Path, plan: Plan, opened: Sequence[Dataset]) -> None:
        settings = plan.data.model_dump(mode="json", exclude=_SPLITS)
        setup = value_hash([_SCHEMA, plan.data_kind, settings, [list(d.classes) for d in opened[:1]]])
        self._path = store / f"looked-{setup[:16]}.json"
        self._wanted = each_once(opened)
        self._stamps: dict[Key, list[Any]] = {}

    def known(self) -> dict[Key, Look]:
        """The looks at images that have not changed since."""
        stored = self._stored()
        found = {}
        for key, (dataset, sample) in self._wanted.items():
            entry = stored.get(_name(key))
            if sample.image is None or entry is None:
                continue
            try:
                if entry["stamps"] == self._stamp(key, dataset):
                    findings = tuple(Finding(k, s, tuple(i), t, r) for k, s, i, t, r in entry["findings"])
                    found[key] = Look(sample, tuple(entry["size"]), _pixels(sample.id, entry["pixels"]), findings)
            except (KeyError, TypeError, ValueError, OSError):
                continue
        return found

    def remember(self, looks: Mapping[Key, Look]) -> None:
        """Keep what was seen of sound files.

        Raises:
            StageError: the store cannot be written.
        """
        entries = {}
        for key, look in looks.items():
            if look.size is None or any(f.severity == "error" for f in look.findings):
                continue
            pixels, shown = look.pixels, None if look.shown is None else sorted(look.shown)
            findings = [[f.kind, f.severity, list(f.ids), f.text, f.remedy] for f in look.findings]
            entries[_name(key)] = {
                "stamps": self._stamp(key, self._wanted[key][0]),
                "size": look.size,
                "pixels": [shown, pixels.ignored, pixels.grey],
                "findings": findings,
            }
        if entries:
            write_json(self._path, sealed(self._stored() | entries))

    def _stored(self) -> dict[str, Any]:
        """What is in the file; empty where there is none, or a damaged one."""
        try:
            return unsealed(read_json(self._path), self._path) if self._path.is_file() else {}
        except StageError as error:
            LOG.warning("%s; the images are looked at again", error)
            return {}

    def _stamp(self, key: Key, dataset: Dataset) -> list[Any]:
        """What shows that the files behind a sample have changed."""
        if key not in self._stamps:
            sample = self._wanted[key][1]
            files = [p for p in (sample.image, sample.truth, *sample.sidecars.values(), *dataset.sources) if p]
            self._stamps[key] = [[str(p), *stamp(p)] for p in files]
        return self._stamps[key]


def _pixels(sample: str, entry: Sequence[Any]) -> Pixels:
    shown, ignored, grey = entry
    return Pixels(sample, None if shown is None else frozenset(shown), ignored, None if grey is None else tuple(grey))


def _name(key: Key) -> str:
    return f"{key[0]}:{key[1]}"
