"""Checks the images of a run before it begins: the headers of all, and as many decoded as 45 seconds allow."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing

from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import LOG, progress
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Finding
from tag2mask.data.doctor.checks import Inspection, Key, each_once, inspect_image
from tag2mask.data.doctor.files import Pixels, each, plain
from tag2mask.data.images import upright_size
from tag2mask.data.mask_files import check_size
from tag2mask.data.sidecars import sidecar_findings

SECONDS = 45.0
"""Time for decoding images and masks."""
AT_LEAST = 200
"""Images that are decoded however long they take."""
_THREADS = 4
_REMEDY = "Replace or remove the file"


def first_look(
    opened: Iterable[Dataset], soon: Collection[Key], known: Mapping[Key, Inspection], quiet: bool = False
) -> dict[Key, Inspection]:
    """Inspect the images that are files: headers, then all of it, those that nothing decodes soon first.

    The order within these depends on the ids alone. Where headers are wrong, nothing is decoded: it is said at once.

    Args:
        opened: the splits.
        soon: images that the first training decodes within minutes.
        known: what was seen of images that have not changed since; it comes back with what is seen now.
        quiet: show no progress.
    """
    wanted = {k: pair for k, pair in each_once(opened).items() if k[1] is not None and k not in known}
    order = sorted(wanted, key=lambda k: (k in soon, hashlib.sha256(k[0].encode()).digest()))
    quiet = quiet or len(order) <= AT_LEAST
    inspected = dict(zip(order, each(lambda k: header_at(*wanted[k]), order, "headers", _THREADS, quiet), strict=True))
    decoded: dict[Key, Inspection] = {}
    if not any(one.findings for one in inspected.values()):
        decoded = _decoded(order, lambda k: inspect_image(*wanted[k]), quiet)
        if len(decoded) < len(order):
            LOG.info(
                "of %d images the headers were read and %d decoded; the others are decoded while their stages run",
                len(order), len(decoded),
            )  # fmt: skip
    return {**known, **inspected, **decoded}


def _decoded(order: Sequence[Key], inspect: Callable[[Key], Inspection], quiet: bool) -> dict[Key, Inspection]:
    started = time.monotonic()
    found: dict[Key, Inspection] = {}
    results = prefetch(inspect, order, _THREADS)
    with progress("images and masks", len(order), quiet) as counter, closing(results):
        for key, seen in zip(order, results, strict=True):
            found[key] = seen
            counter.advance()
            if len(found) >= AT_LEAST and time.monotonic() - started > SECONDS:
                break
    return found


def header_at(dataset: Dataset, sample: Sample) -> Inspection:
    """Read the headers of an image file and its mask file; whatever goes wrong is a finding."""
    assert sample.image is not None
    try:
        height, width = dataset.working_size(sample) or upright_size(sample.image)
    except Exception as error:  # as `inspect_image`
        return Inspection(
            sample, None, Pixels(sample.id), (Finding("image", "error", (sample.id,), plain(error), _REMEDY),)
        )
    findings = []
    try:
        shape = dataset.mask_size(sample)
        if shape is not None:
            what = f"mask {sample.truth}" if sample.truth else f"the mask of '{sample.id}'"
            check_size(shape, sample.image, what)
    except Exception as error:
        findings.append(Finding("mask", "error", (sample.id,), plain(error), "Replace or remove the mask"))
    findings += sidecar_findings(dataset, sample)
    return Inspection(sample, (width, height), Pixels(sample.id), tuple(findings))
