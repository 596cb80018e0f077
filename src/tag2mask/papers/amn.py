"""AMN's experiments on maps and thresholds: Figures 1, 2, 4, 5 and 6, Tables 1 and 2, hyper-parameters."""

from __future__ import annotations

from tag2mask.papers.chains import AMN, IRN, P_AMN, P_IRN_CAM, P_PCL, PCL
from tag2mask.papers.definition import Axis, Experiment, Order, Place, Published, Row, Variant

_VOC = "VOC train"

_CAM_MAPS = Row("CAM", Place(AMN, "cam"), Place(P_AMN, "cam"))
_NO_LC = Row("AMN without label conditioning", Place(PCL, "amn-maps"), Place(P_PCL, "amn-maps"))
_AMN_MAPS = Row("AMN", Place(AMN, "amn-maps"), Place(P_AMN, "amn-maps"))

A1 = Experiment(
    "A1", "AMN", "Figure 1a", "the best threshold of each image",
    "How far are the best thresholds of single images from the one threshold for all?",
    (
        Row(
            "CAM", Place(AMN, "cam"), Place(P_AMN, "cam"),
            (Published("global_threshold", 0.15, _VOC, "AMN, Figure 1"),),
        ),
    ),
    metrics=("global_threshold", "optimum_mean", "optimum_sd", "optimum_distance", "optimum_near", "miou", "miou_own"),
    steps=("threshold_examples:optimum",),
    notes=("the paper draws a histogram and gives no number of its width; thresholds are on the scale of the maps",),
)  # fmt: skip

A2 = Experiment(
    "A2", "AMN", "Figure 1b and c", "images cut at the global and at their best threshold",
    "What does one threshold for all do to single images?",
    (_CAM_MAPS,),
    steps=("threshold_examples:threshold_examples",),
    pictures=True,
)  # fmt: skip

A3 = Experiment(
    "A3", "AMN", "Figure 2", "the toy of imbalance and gap",
    "Why does a map with two levels fit any threshold, and a map with a peak none?",
    (Row("two-levels"), Row("one-peak")),
    metrics=("iou/object", "plateau_width", "mean_miou_0.05-0.60", "spread", "gap", "margin"),
    orders=(Order("two-levels", "one-peak", "plateau_width"), Order("two-levels", "one-peak", "gap")),
    steps=("toy_figures:threshold_toy",),
    needs_truth=False,
    notes=("the paper draws both maps and gives no number; IoU is at the threshold of its figure, 0.25",),
    used="a toy",
)  # fmt: skip


def _table_1(value: float) -> tuple[Published, ...]:
    return (Published("miou", value, _VOC, "AMN, Table 1"),)


A4 = Experiment(
    "A4", "AMN", "Table 1", "per-pixel classification, then label conditioning",
    "What do per-pixel classification and label conditioning add, after a dense CRF and after IRN?",
    (
        Row("CAM, CRF", Place(AMN, "cam+crf"), Place(P_IRN_CAM, "cam+crf"), _table_1(54.3)),
        Row("PCL, CRF", Place(PCL, "amn+crf"), Place(P_PCL, "amn+crf"), _table_1(62.1)),
        Row("PCL + LC, CRF", Place(AMN, "amn+crf"), Place(P_AMN, "amn+crf"), _table_1(65.3)),
        Row("CAM, IRN", Place(IRN, "cam-walk"), Place(P_IRN_CAM, "cam-walk"), _table_1(66.3)),
        Row("PCL, IRN", Place(PCL, "amn-walk"), Place(P_PCL, "amn-walk"), _table_1(69.1)),
        Row("PCL + LC, IRN", Place(AMN, "amn-walk"), Place(P_AMN, "amn-walk"), _table_1(72.2)),
        Row("CAM, seeds", Place(AMN, "cam"), Place(P_IRN_CAM, "cam")),
        Row("PCL, seeds", Place(PCL, "amn-maps"), Place(P_PCL, "amn-maps")),
        Row("PCL + LC, seeds", Place(AMN, "amn-maps"), Place(P_AMN, "amn-maps")),
    ),
    orders=tuple(
        Order(above, below)
        for after in ("CRF", "IRN")
        for above, below in ((f"PCL, {after}", f"CAM, {after}"), (f"PCL + LC, {after}", f"PCL, {after}"))
    ),
    notes=("seeds are before any refinement; the paper has no such column",),
)  # fmt: skip

_LAYERS = {
    "1": 48.2, "2": 51.7, "3": 61.2, "4": 62.1, "3, 4": 61.0, "2, 3, 4": 51.4, "2, 3": 50.9,
}  # fmt: skip
"""Table 2: where the tags enter, and the seeds' mIoU."""


def _layer(layers: str, value: float) -> Row:
    name, word = f"at{layers.replace(', ', '')}", f"amn.condition=[{layers}]"
    light = Variant(name, AMN.recipe, (*AMN.words, word))
    papers = Variant(name, P_AMN.recipe, (*P_AMN.words, word))
    known = (Published("miou", value, _VOC, "AMN, Table 2"),)
    return Row(f"layer {layers}", Place(light, "amn-maps"), Place(papers, "amn-maps"), known)


A5 = Experiment(
    "A5", "AMN", "Table 2", "where the tags enter",
    "After which stage of the backbone should the features be multiplied by the label code?",
    (*(_layer(layers, value) for layers, value in _LAYERS.items()), Row("nowhere", _NO_LC.light, _NO_LC.papers)),
    orders=(Order("layer 4", "layer 3"), Order("layer 3", "layer 2"), Order("layer 4", "layer 3, 4")),
    notes=("seeds of AMN, without refinement at boundaries",),
)  # fmt: skip

A6 = Experiment(
    "A6", "AMN", "Figure 4", "an image under a right and a wrong class",
    "Does label conditioning take the activation off classes that are not in the image?",
    (_AMN_MAPS, _NO_LC),
    metrics=("present", "absent", "absent_highest", "wrong_tag_wrong", "wrong_tag_present"),
    orders=(Order("AMN without label conditioning", "AMN", "absent"),),
    steps=("threshold_examples:label_conditioning",),
    needs_truth=False,
    notes=("means of the softmax over an image's pixels, up to 100 images; docs/evaluation.md says what each is",),
)  # fmt: skip

A7 = Experiment(
    "A7", "AMN", "Figure 5", "maps of CAM, per-pixel classification, and AMN",
    "What does each part of AMN change in the maps of single images?",
    (_CAM_MAPS, _NO_LC, _AMN_MAPS),
    orders=(Order("AMN without label conditioning", "CAM"), Order("AMN", "AMN without label conditioning")),
    steps=("threshold_examples:panels",),
    pictures=True,
)  # fmt: skip

_NO_NUMBER = "published as a curve without numbers"

A8 = Experiment(
    "A8", "AMN", "Figure 6", "mIoU over thresholds",
    "Are AMN's maps the ones that depend least on the threshold?",
    (_CAM_MAPS, Row("RIB", note=_NO_NUMBER), Row("DRS", note=_NO_NUMBER), _NO_LC, _AMN_MAPS),
    metrics=("miou", "plateau_width", "mean_miou_0.05-0.60"),
    orders=(
        Order("AMN without label conditioning", "CAM", "plateau_width"), Order("AMN", "CAM", "plateau_width"),
        Order("AMN", "CAM"), Order("AMN", "AMN without label conditioning"),
    ),
    steps=("curves_and_classes:curves",),
    notes=(
        "in the paper CAM and RIB fall off fast around their best, DRS and AMN without label conditioning are gentle, "
        "AMN is highest and flattest; RIB's masks after its own refinement have 70.6 on VOC train (A9)",
    ),
)  # fmt: skip

_SETTINGS = (
    Axis("smoothing", "amn.smoothing", ("0.0", "0.2", "0.4", "0.6")),
    Axis("balanced", "amn.balanced", ("true", "false")),
    Axis("lr", "amn.train.lr", ("5.0e-6", "2.0e-5", "5.0e-5", "2.0e-4")),
    Axis("head_lr", "amn.train.head_lr", ("1.0e-4", "3.0e-4", "1.0e-3")),
)

A14 = Experiment(
    "A14", "AMN", "section 5.1 and supplement", "label smoothing, balanced loss, two learning rates",
    "How much do AMN's settings matter?",
    tuple(Row(axis.row(value)) for axis in _SETTINGS for value in axis.values),
    axes=_SETTINGS,
    swept=_AMN_MAPS,
    notes=(
        "the paper has smoothing 0.4, the balanced loss, 5e-6 and 1e-4 with ResNet-50; its supplement is not at "
        "hand",
    ),
)  # fmt: skip

EXPERIMENTS = (A1, A2, A3, A4, A5, A6, A7, A8, A14)
