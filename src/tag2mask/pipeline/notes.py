"""Sentences of a page beside its tables: the classifier, refined seeds, networks, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence

from tag2mask.evaluation.result_tables import MetricRow
from tag2mask.pipeline.measured import Measured, network_of


def notes(metrics: Sequence[MetricRow], split: str, every: Sequence[Measured], n_images: int, n_seen: int) -> list[str]:
    """What is to be said about one split of a run.

    Args:
        metrics: every number of the run.
        split: name of the split.
        every: what was measured of it.
        n_images: images counted.
        n_seen: images left out, as a threshold was chosen on their masks.
    """
    known = [r for r in metrics if r.metric == "map" and r.value is not None]
    found = [f"Classifier: mean average precision {r.value:.1f} on {r.split} ({r.n_images} images)." for r in known]
    rows = [r for r in metrics if r.split == split]
    found += _refined(rows)
    found += _networks(rows, every)
    if n_seen:
        found.append(f"{n_seen} images whose masks a threshold was chosen on are left out of every number.")
    if any(r.metric == "miou" and r.value is None for r in rows):
        found.append("–: the ground truth shows no class, so there is no mIoU; tag2mask doctor looks at the masks.")
    if not n_images:
        found.append("This data has no masks, so nothing was measured: look at the pictures.")
    return found


def _refined(rows: Sequence[MetricRow]) -> list[str]:
    sure = {(r.stage, r.metric): r.value for r in rows if r.value is not None}
    found = []
    for stage in dict.fromkeys(stage for stage, metric in sure if metric == "coverage"):
        right = sure.get((stage, "precision_sure"))
        share = f", and {right:.1f} % of these are right" if right is not None else ""
        found.append(f"Refined seeds {stage}: {sure[stage, 'coverage']:.1f} % of the pixels are sure{share}.")
    return found


def _networks(rows: Sequence[MetricRow], every: Sequence[Measured]) -> list[str]:
    """Predictions with the network that made them and its first weights."""
    networks = {m.name: network for m in every if (network := network_of(m.maker.artefact))}
    return [
        f"{r.stage}: {r.value:.1f} mIoU on {r.split} ({r.n_images} images; {networks[r.stage]})."
        for r in rows
        if r.metric == "miou" and r.value is not None and r.stage in networks
    ]
