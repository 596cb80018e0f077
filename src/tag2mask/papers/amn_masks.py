"""AMN's experiments on masks and segmentation: Tables 3 to 5, single classes, Figures 7 and 8, the limitation."""

from __future__ import annotations

from tag2mask.papers.chains import (
    AMN,
    IRN,
    P_AMN,
    P_IRN_CAM,
    boundary,
    light_network,
    published_network,
)  # fmt: skip
from tag2mask.papers.definition import COCO, Experiment, Order, Place, Published, Row, Variant

_VOC, _VAL, _TEST, _COCO_VAL = "VOC train", "VOC val", "VOC test", "COCO val"
_IRN_MASKS = Row("IRN", Place(IRN, "cam-walk"), Place(P_IRN_CAM, "cam-walk"))
_AMN_MASKS = Row("AMN", Place(AMN, "amn-walk"), Place(P_AMN, "amn-walk"))


def _table_3(value: float) -> tuple[Published, ...]:
    return (Published("miou", value, _VOC, "AMN, Table 3"),)


A9 = Experiment(
    "A9", "AMN", "Table 3", "pseudo-masks of the literature, with our rows beside it",
    "How good are AMN's pseudo-masks beside those of other methods?",
    (
        Row("IRN", _IRN_MASKS.light, _IRN_MASKS.papers, _table_3(66.3)),
        Row("SEAM", published=_table_3(63.6)),
        Row("MBMNet", published=_table_3(66.8)),
        Row("CONTA", published=_table_3(67.9)),
        Row("AdvCAM", published=_table_3(69.9)),
        Row("RIB", published=_table_3(70.6)),
        Row("AMN", _AMN_MASKS.light, _AMN_MASKS.papers, _table_3(72.2)),
    ),
    orders=(Order("AMN", "IRN"),),
    notes=("each published row has the refinement that its authors report as the best",),
)  # fmt: skip


def _table_4(name: str, network: str, val: float, test: float, note: str = "") -> Row:
    values = ((val, _VAL), (test, _TEST))
    known = tuple(Published("miou", v, on, "AMN, Table 4", note) for v, on in values)
    return Row(f"{name} [{network}]", published=known)


_SALIENCY = "saliency"
_COCO_COMMAND = (
    "tag2mask run voc12-amn-cam-deeplabv2 segmenter.network.weights=FILE segmenter.network.pretrained=coco "
    "allow_supervision=[tags,pixel-masks:init]"
)

A10 = Experiment(
    "A10", "AMN", "Table 4", "segmentation on VOC, with first weights of ImageNet and of COCO",
    "How well does a segmentation network on AMN's masks do, and what do first weights that saw masks add?",
    (
        Row(
            "AMN", light_network("amn"), published_network("amn-cam", "deeplabv2"),
            (Published("miou", 69.5, _VAL, "AMN, Table 4"), Published("miou", 69.6, _TEST, "AMN, Table 4")),
        ),
        Row("IRN", light_network("cam"), published_network("irn-cam", "deeplabv2")),
        _table_4("AMN, COCO's weights", "ResNet-101", 70.7, 70.6, "first weights saw COCO's masks"),
        _table_4("FickleNet", "ResNet-101", 64.9, 65.3, _SALIENCY),
        _table_4("OAA", "ResNet-101", 65.2, 66.4, _SALIENCY),
        _table_4("Multi-Est.", "ResNet-101", 67.2, 66.7, _SALIENCY),
        _table_4("MCIS", "ResNet-38", 66.2, 66.9, _SALIENCY),
        _table_4("SGAN", "ResNet-101", 67.1, 67.2, _SALIENCY),
        _table_4("EPS", "ResNet-101", 70.9, 70.8, _SALIENCY),
        _table_4("DRS", "ResNet-101", 71.2, 71.4, _SALIENCY),
        _table_4("ICD", "ResNet-101", 64.1, 64.3),
        _table_4("SEAM", "ResNet-38", 64.5, 65.7),
        _table_4("SC-CAM", "ResNet-101", 66.1, 65.9),
        _table_4("RRM", "ResNet-101", 66.3, 66.5),
        _table_4("BES", "ResNet-101", 65.7, 66.6),
        _table_4("CONTA", "ResNet-50", 66.1, 66.7),
        _table_4("AdvCAM", "ResNet-101", 68.1, 68.0),
        _table_4("RIB", "ResNet-101", 68.3, 68.6),
    ),
    orders=(Order("AMN", "IRN"),),
    notes=(
        "the light recipes train an FPN on EfficientNet-Lite0 in place of DeepLabV2",
        "VOC's test masks are with its server",
        f"the row of COCO's weights with a file of your own: {_COCO_COMMAND}",
    ),
)  # fmt: skip


def _table_5(name: str, network: str, value: float, note: str = "") -> Row:
    return Row(f"{name} [{network}]", published=(Published("miou", value, _COCO_VAL, "AMN, Table 5", note),))


A11 = Experiment(
    "A11", "AMN", "Table 5", "segmentation on MS COCO",
    "Does a segmentation network on AMN's masks do well on many classes too?",
    (
        Row(
            "AMN", light_network("amn"), published_network("amn-cam", "deeplabv2"),
            (Published("miou", 44.7, _COCO_VAL, "AMN, Table 5"),),
        ),
        Row(
            "IRN", light_network("cam"), published_network("irn-cam", "deeplabv2"),
            (Published("miou", 41.4, _COCO_VAL, "AMN, Table 5"),),
        ),
        _table_5("SGAN", "VGG16", 33.6, _SALIENCY),
        _table_5("EPS", "VGG16", 35.7, _SALIENCY),
        _table_5("ADL", "VGG16", 30.8),
        _table_5("CONTA", "ResNet-50", 33.4),
        _table_5("RIB", "ResNet-101", 43.8),
    ),
    orders=(Order("AMN", "IRN"),),
    notes=(
        "on MS COCO: data=coco data.root=FOLDER, or --recipes coco14. The light recipes train an FPN on "
        "EfficientNet-Lite0 in place of DeepLabV2. LPCAM prints 42.0 for IRN and 44.2 for RIB",
    ),
    used=f"{COCO}, ResNet-50 classifier",
)  # fmt: skip


def _classes(values: tuple[float, float], on: str) -> tuple[Published, ...]:
    names = ("iou/diningtable", "iou/tvmonitor")
    return tuple(Published(n, v, on, "AMN, section 5.4") for n, v in zip(names, values, strict=True))


A12 = Experiment(
    "A12", "AMN", "section 5.4", "class by class",
    "Which classes gain most: those whose objects differ most in activation?",
    (
        Row("IRN", _IRN_MASKS.light, _IRN_MASKS.papers),
        Row("RIB", published=(*_classes((41.9, 54.2), _VOC), *_classes((37.5, 54.9), _VAL))),
        Row(
            "AMN", _AMN_MASKS.light, _AMN_MASKS.papers, (*_classes((62.8, 63.1), _VOC), *_classes((53.8, 57.5), _VAL))
        ),
    ),
    metrics=("miou", "iou/"),
    orders=(Order("AMN", "IRN"),),
    steps=("curves_and_classes:deltas",),
    notes=(
        "the paper compares with RIB, which is not here: our deltas are over IRN from CAM. VOC val is of segmentation "
        "networks, VOC train of pseudo-masks, as ours",
    ),
)  # fmt: skip

A13 = Experiment(
    "A13", "AMN", "Figures 7 and 8", "results on images, and failures",
    "Where do AMN's masks cover objects that IRN's do not, and where do they fail?",
    (_IRN_MASKS, _AMN_MASKS),
    orders=(Order("AMN", "IRN"),),
    steps=("threshold_examples:panels",),
    pictures=True,
    notes=(
        "the paper shows predictions on VOC val, here are pseudo-masks; its failures are a chair's table, a bicycle's "
        "ring, rails of a train and water of a boat: name such images with --image",
    ),
)  # fmt: skip

_BOUNDARIES = {
    name: Variant(f"{base.name}-boundary", base.recipe, (*base.words, boundary(masks)))
    for name, base, masks in (("irn", IRN, "cam-masks"), ("amn", AMN, "amn-masks"), ("p-irn", P_IRN_CAM, "cam-masks"),
                              ("p-amn", P_AMN, "amn-masks"))
}  # fmt: skip

A15 = Experiment(
    "A15", "AMN", "section 5.5", "the limitation: co-occurrence and boundaries",
    "Which classes come together, and how much worse are the masks at boundaries?",
    (
        Row("IRN", Place(_BOUNDARIES["irn"], "cam-masks"), Place(_BOUNDARIES["p-irn"], "cam-masks")),
        Row("AMN", Place(_BOUNDARIES["amn"], "amn-masks"), Place(_BOUNDARIES["p-amn"], "amn-masks")),
    ),
    metrics=("miou", "boundary_iou", "trimap_miou/5", "trimap_miou/20"),
    orders=(Order("AMN", "IRN"), Order("AMN", "IRN", "boundary_iou")),
    steps=("cost_and_cooccurrence:hidden",),
    notes=("the paper names both as limits and measures neither",),
)  # fmt: skip

EXPERIMENTS = (A9, A10, A11, A12, A13, A15)
