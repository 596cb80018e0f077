"""Keys: a hash of all that an artefact depends on, so that a change reruns exactly what depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tag2mask.core.errors import StageError
from tag2mask.core.files import file_hash, read_json, stamp, value_hash, write_json
from tag2mask.core.manifest import sealed, unsealed
from tag2mask.core.names import shown
from tag2mask.core.progress import LOG
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset


class ContentHashes:
    """Hashes of image and mask contents, remembered by path and by what shows that a file has changed.

    Args:
        path: JSON file of the memory; a damaged one is begun anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        self._known: dict[str, Any] = {}
        try:
            if path.exists():
                self._known = unsealed(read_json(path), path)
        except StageError as error:
            LOG.warning("%s; the contents of the images are reread", error)

    def file(self, path: Path) -> str:
        """SHA-256 of a file.

        Raises:
            OSError: it cannot be read.
        """
        name, now = shown(path.resolve()), [*stamp(path)]  # a link may lead to a name that JSON does not take
        known = self._known.get(name)
        if not isinstance(known, list) or known[:-1] != now:
            self._known[name] = known = [*now, file_hash(path)]
            self._changed = True
        return str(known[-1])

    def image(self, dataset: Dataset, sample: Sample) -> str:
        """SHA-256 of what a sample's image is made of."""
        return dataset.content_hash(sample) if sample.image is None else self.file(sample.image)

    def truth(self, dataset: Dataset, sample: Sample) -> str:
        """Hash of a sample's ground truth: of its file and how it is read, or of the labels where it has no file."""
        if sample.truth is not None:
            file, reading = self.file(sample.truth), dataset.truth_reading
            return value_hash([file, reading]) if reading else file
        labels = dataset.truth(sample)
        return "none" if labels is None else value_hash([list(labels.shape), labels.tobytes().hex()])

    def save(self) -> None:
        """Write the memory where something is new."""
        if self._changed:
            write_json(self._path, sealed(self._known))
            self._changed = False


class SampleKeys:
    """Sample keys of one run: stage key + id + content of the image + names of its tags + content of sidecars."""

    def __init__(self, hashes: ContentHashes) -> None:
        self.hashes = hashes
        self._contents: dict[tuple[Dataset, str], str] = {}

    def of(self, stage_key: str, dataset: Dataset, sample: Sample, roles: Sequence[str] = ()) -> str:
        """The key that the file of one sample carries; ``roles`` are those of the sidecars that it is made from."""
        return value_hash([stage_key, self.content(dataset, sample, roles)])

    def content(self, dataset: Dataset, sample: Sample, roles: Sequence[str] = ()) -> str:
        """What a sample is, whatever is done with it, with the sidecars of some roles."""
        if roles:
            paths = [(role, sample.sidecars.get(role)) for role in roles]
            files = [[role, None if path is None else self.hashes.file(path)] for role, path in paths]
            return value_hash([self.content(dataset, sample), files])
        known = self._contents.get((dataset, sample.id))
        if known is None:
            tags = [dataset.classes[c] for c in sample.tags]
            size = dataset.working_size(sample)
            shrunk = [] if size is None else [list(size)]
            known = value_hash([sample.id, self.hashes.image(dataset, sample), tags, *shrunk])
            self._contents[dataset, sample.id] = known
        return known

    def all(self, dataset: Dataset, samples: Iterable[Sample] | None = None, roles: Sequence[str] = ()) -> str:
        """What a training stage hashes: the sorted contents of the samples it sees, all of the split where None."""
        seen = dataset.samples if samples is None else samples
        return value_hash(sorted(self.content(dataset, s, roles) for s in seen))


def keys_of(store: Path, rank: int = 0) -> SampleKeys:
    """Sample keys of a process, with what is remembered of file contents in that store."""
    return SampleKeys(ContentHashes(store / f"hashes-{rank}.json"))


def stage_key(
    *,
    kind: str,
    version: int,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    seed: int | None = None,
    fingerprint: str = "",
    data: str = "",
) -> str:
    """The key of a stage, 64 hex digits.

    Args:
        kind: name of the stage kind.
        version: of the kind's output.
        settings: those that change the output; device and workers are not among them.
        inputs: role -> hash of the trained file, or key of the maps, that it reads.
        seed: where the stage is random.
        fingerprint: hash of weight files.
        data: hash of the samples, for a stage that is trained or measured on all of them.
    """
    return value_hash([kind, version, dict(settings), dict(inputs), seed, fingerprint, data])
