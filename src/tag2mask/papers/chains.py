"""The recipes that stand behind several experiments, and the stages that are added to them."""

from __future__ import annotations

from tag2mask.papers.definition import Place, Variant

OWN, CONFUSING, EITHER = "CAM: weights of the true class", "weights of a confusing class", "either of the two"
CLASSIFIER = "classifier's weights"
CLUSTERING, TRAINING = "clustering", "training of the classifier"
"""Names of rows that steps fill."""


def seeds(maps: str, threshold: float) -> str:
    """The word that adds a stage measuring ``maps`` at a threshold, at the oracle, and over all thresholds."""
    return f"stages.{maps}-seeds={{kind: seeds, reads: {{maps: {maps}}}, threshold: {threshold}}}"


def crf(name: str, maps: str, threshold: float) -> tuple[str, ...]:
    """The words that add the papers' "w/ CRF", one CRF pass over seeds, as stage ``name``, and measure it."""
    return (
        f"stages.{name}={{kind: seed-crf, reads: {{maps: {maps}}}, threshold: {threshold}}}",
        f"stages.{name}-score={{kind: masks, reads: {{masks: {name}}}}}",
    )


def network(masks: str) -> tuple[str, ...]:
    """The words that add own-data's segmentation network on pseudo-masks, and measure its predictions."""
    half = "{decoder_pyramid_channels: 128, decoder_segmentation_channels: 64}"
    net = f"{{kind: fpn, encoder: efficientnet_lite0, weights: bundled, decoder: {half}}}"
    own = f"network: {net}, train: {{epochs: 6, crop: 256}}"
    return (
        f"stages.segmenter={{kind: segmenter, reads: {{masks: {masks}}}, {own}}}",
        "stages.predictions={kind: predictions, reads: {segmenter: segmenter}}",
        "stages.predictions-score={kind: masks, reads: {masks: predictions}}",
    )


_WALKED = (seeds("amn-walk", 0.45), seeds("amn-lpcam-walk", 0.45))
_CRF = (*crf("cam+crf", "cam", 0.3), *crf("amn+crf", "amn-maps", 0.4))

SEEDS = Variant("seeds", "own-data")
IRN = Variant("irn", "own-data-irn", (seeds("cam-walk", 0.25), seeds("lpcam-walk", 0.35)))
AMN = Variant("amn", "own-data-amn", (*_WALKED, *_CRF))
PCL = Variant("pcl", "own-data-amn", (*_WALKED, *_CRF, "amn.condition=[]"))
"""AMN without label conditioning: per-pixel classification alone."""

P_SEEDS = Variant("seeds", "{data}-lpcam")
P_IRN_CAM = Variant("irn-cam", "{data}-irn-cam")
P_IRN_LPCAM = Variant("irn-lpcam", "{data}-irn-lpcam")
P_AMN = Variant("amn", "{data}-amn")
P_AMN_LPCAM = Variant("amn-lpcam", "{data}-amn-lpcam")
P_LPCAM_ON_AMN = Variant("lpcam-on-amn", "{data}-lpcam-on-amn")
P_PCL = Variant("pcl", "{data}-amn", ("amn.condition=[]",))


def light_network(maps: str) -> Place:
    """Predictions of the light network on pseudo-masks of ``cam``, ``lpcam`` (by IRN), ``amn`` or ``amn-lpcam``."""
    base = AMN if maps.startswith("amn") else IRN
    words = (*base.words, *network(f"{maps}-masks"))
    return Place(Variant(f"{maps}-network", base.recipe, words), "predictions")


def published_network(maps: str, kind: str) -> Place:
    """Predictions of ``deeplabv2`` or ``upernet`` on pseudo-masks, by the recipe ``<data>-<maps>-<kind>``."""
    return Place(Variant(f"{maps}-{kind}", f"{{data}}-{maps}-{kind}"), "predictions")


def boundary(masks: str) -> str:
    """The word that adds a stage measuring the boundaries of ``masks``."""
    return f"stages.{masks}-boundary={{kind: boundary, reads: {{masks: {masks}}}}}"
