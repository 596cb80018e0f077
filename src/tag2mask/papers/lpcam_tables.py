"""LPCAM's large tables: LPCAM in other methods (Table 2), segmentation (Table 3), the literature (Table 4)."""

from __future__ import annotations

from tag2mask.papers.chains import (
    AMN,
    IRN,
    P_AMN,
    P_AMN_LPCAM,
    P_IRN_CAM,
    P_IRN_LPCAM,
    P_LPCAM_ON_AMN,
    light_network,
    published_network,
)  # fmt: skip
from tag2mask.papers.definition import COCO, VOC, Experiment, Order, Place, Published, Row

_VOC, _COCO = "VOC train", "COCO train"
_BOTH_DATA = f"{VOC} and {COCO}, ResNet-50 classifier"
_VAL, _TEST, _COCO_VAL = "VOC val", "VOC test", "COCO val"


def _table_2(voc: float, coco: float | None = None, note: str = "") -> tuple[Published, ...]:
    found = (Published("miou", voc, _VOC, "LPCAM, Table 2", note),)
    return found if coco is None else (*found, Published("miou", coco, _COCO, "LPCAM, Table 2", note))


def _waiting(host: str, voc: tuple[float, float, float, float], note: str = "") -> tuple[Row, ...]:
    names = (f"{host}, seeds", f"{host} + LPCAM, seeds", f"{host}, masks", f"{host} + LPCAM, masks")
    return tuple(Row(n, published=_table_2(v, note=note), needs=host) for n, v in zip(names, voc, strict=True))


L2 = Experiment(
    "L2", "LPCAM", "Table 2", "LPCAM in place of CAM in other methods",
    "Does LPCAM in place of CAM make better seeds and better pseudo-masks, whatever refines them?",
    (
        Row("IRN, seeds", Place(IRN, "cam"), Place(P_IRN_CAM, "cam"), _table_2(48.8, 33.1)),
        Row("IRN + LPCAM, seeds", Place(IRN, "lpcam"), Place(P_IRN_LPCAM, "lpcam"), _table_2(54.9, 35.8)),
        Row("IRN, masks", Place(IRN, "cam-walk"), Place(P_IRN_CAM, "cam-walk"), _table_2(66.5, 42.5)),
        Row("IRN + LPCAM, masks", Place(IRN, "lpcam-walk"), Place(P_IRN_LPCAM, "lpcam-walk"), _table_2(71.2, 46.8)),
        Row("AMN, seeds", Place(AMN, "amn-maps"), Place(P_AMN, "amn-maps"), _table_2(62.1, 40.3)),
        Row(
            "AMN + LPCAM, seeds", Place(AMN, "amn-lpcam-maps"), Place(P_AMN_LPCAM, "amn-maps"), _table_2(65.3, 42.5)
        ),
        Row("AMN + LPCAM on AMN's features, seeds", Place(AMN, "lpcam-on-amn"), Place(P_LPCAM_ON_AMN, "lpcam-on-amn")),
        Row("AMN, masks", Place(AMN, "amn-walk"), Place(P_AMN, "amn-walk"), _table_2(72.2, 46.7)),
        Row(
            "AMN + LPCAM, masks", Place(AMN, "amn-lpcam-walk"), Place(P_AMN_LPCAM, "amn-walk"), _table_2(72.7, 47.7)
        ),
        *_waiting("EDAM", (52.8, 54.9, 68.1, 69.6)),
        *_waiting("MCTformer", (61.7, 63.5, 69.1, 70.8), "DeiT-S"),
    ),
    orders=tuple(
        Order(f"{host} + LPCAM, {what}", f"{host}, {what}") for host in ("IRN", "AMN") for what in ("seeds", "masks")
    ),
    notes=(
        "masks are the walked maps cut at each kind of threshold; at the recipe's own these are its pseudo-masks",
        "how LPCAM enters AMN was never released; both readings are here, refined seeds of LPCAM and prototypes on "
        "AMN's features",
    ),
    used=_BOTH_DATA,
)  # fmt: skip


def _table_3(values: tuple[float | None, ...], note: str = "", coco_note: str = "") -> tuple[Published, ...]:
    return tuple(
        Published("miou", v, on, "LPCAM, Table 3", coco_note if on == _COCO_VAL else note)
        for v, on in zip(values, (_VAL, _TEST, _COCO_VAL), strict=True)
        if v is not None
    )


_CHAINS = (("IRN", "irn-cam", "cam"), ("IRN + LPCAM", "irn-lpcam", "lpcam"), ("AMN", "amn-cam", "amn"),
           ("AMN + LPCAM", "amn-lpcam", "amn-lpcam"))  # fmt: skip
"""Row, the papers' recipes, and the light maps."""

_DEEPLAB: dict[str, tuple[float, ...]] = {
    "IRN": (63.5, 64.8, 42.0), "IRN + LPCAM": (68.6, 68.7, 44.5), "AMN": (69.5, 69.6, 44.7),
    "AMN + LPCAM": (70.1, 70.4, 45.5),
}  # fmt: skip
_UPERNET: dict[str, tuple[float, ...]] = {
    "IRN": (65.9, 67.7, 44.0), "IRN + LPCAM": (71.1, 71.8, 47.0), "AMN": (71.7, 71.8, 47.1),
    "AMN + LPCAM": (73.1, 73.4, 48.3),
}  # fmt: skip
_SAW_COCO, _SAW_VOC = "first weights saw COCO's masks", "first weights of a VOC classifier, WideResNet-38"


def _networks() -> tuple[Row, ...]:
    rows = [
        Row(f"{name}: DeepLabV2", None, published_network(p, "deeplabv2"), _table_3(_DEEPLAB[name]))
        for name, p, _ in _CHAINS
    ]
    rows += [
        Row(f"{name}: UperNet-Swin", None, published_network(p, "upernet"), _table_3(_UPERNET[name]))
        for name, p, _ in _CHAINS
    ]
    rows += [Row(f"{name}: FPN, light", light_network(maps)) for name, _, maps in _CHAINS]
    return tuple(rows)


L3 = Experiment(
    "L3", "LPCAM", "Table 3", "segmentation networks on the pseudo-masks",
    "Is what LPCAM gains on pseudo-masks still there in a segmentation network, on images that took no part?",
    (
        *_networks(),
        Row("EDAM: DeepLabV2", published=_table_3((70.9, 70.6, 40.6), _SAW_COCO), needs="EDAM"),
        Row("EDAM + LPCAM: DeepLabV2", published=_table_3((71.8, 72.1, 42.1), _SAW_COCO), needs="EDAM"),
        Row("EDAM: UperNet-Swin", published=_table_3((71.2, 71.0, 41.7)), needs="EDAM"),
        Row("EDAM + LPCAM: UperNet-Swin", published=_table_3((72.7, 72.5, 43.0)), needs="EDAM"),
        Row("MCTformer: DeepLabV2", published=_table_3((71.9, 71.6, None), _SAW_VOC), needs="MCTformer"),
        Row("MCTformer + LPCAM: DeepLabV2", published=_table_3((72.6, 72.4, None), _SAW_VOC), needs="MCTformer"),
        Row("MCTformer: UperNet-Swin", published=_table_3((70.6, 70.3, None)), needs="MCTformer"),
        Row("MCTformer + LPCAM: UperNet-Swin", published=_table_3((72.0, 72.5, None)), needs="MCTformer"),
    ),
    orders=(
        *(Order(f"{host} + LPCAM: {net}", f"{host}: {net}") for host in ("IRN", "AMN")
          for net in ("DeepLabV2", "UperNet-Swin", "FPN, light")),
    ),
    notes=(
        "the light recipes train an FPN on EfficientNet-Lite0; DeepLabV2 and UperNet-Swin come with --recipes voc12 or "
        "coco14. VOC's test masks are with its server: own numbers are of data.val",
    ),
    used=_BOTH_DATA,
)  # fmt: skip


def _table_4(
    name: str, val: float | None, test: float | None, coco: float | None = None, note: str = "", coco_note: str = "",
    needs: str = "",
) -> Row:  # fmt: skip
    found = tuple(
        Published("miou", v, on, "LPCAM, Table 4", extra)
        for v, on, extra in ((val, _VAL, note), (test, _TEST, note), (coco, _COCO_VAL, coco_note))
        if v is not None
    )
    return Row(name, published=found, needs=needs)


def _ours(name: str, papers: str, light: str) -> Row:
    values = _DEEPLAB[name]
    known = tuple(
        Published("miou", v, on, "LPCAM, Table 4") for v, on in zip(values, (_VAL, _TEST, _COCO_VAL), strict=True)
    )
    return Row(name, light_network(light), published_network(papers, "deeplabv2"), known)


_SAL, _INIT, _BOTH = "saliency", "network pre-trained on COCO", "saliency; network pre-trained on COCO"

L4 = Experiment(
    "L4", "LPCAM", "Table 4", "the literature, with our rows beside it",
    "Where do the two papers stand among methods with other classifiers, and with saliency maps?",
    (
        *(_ours(*chain) for chain in _CHAINS),
        _table_4("LayerCAM (ResNet-50)", 63.0, 64.5),
        _table_4("AdvCAM (ResNet-50)", 68.1, 68.0, 44.2),
        _table_4("RIB (ResNet-50)", 68.3, 68.6, 44.2),
        _table_4("ReCAM (ResNet-50)", 68.5, 68.4, 42.9),
        _table_4("SIPE (ResNet-50)", 68.8, 69.7, 40.6),
        _table_4("OOD + Adv (ResNet-50)", 69.8, 69.9),
        _table_4("ESOL (ResNet-50)", 69.9, 69.3, 42.6, _INIT),
        _table_4("CLIMS (ResNet-50)", 70.4, 70.0, note=_INIT),
        _table_4("EDAM (ResNet-50)", 70.9, 71.8, note=_BOTH, needs="EDAM"),
        _table_4("EDAM + LPCAM (ResNet-50)", 71.8, 72.1, 42.1, _BOTH, _SAL, needs="EDAM"),
        _table_4("Spatial-BCE (WideResNet-38)", 70.0, 71.3, 35.2),
        _table_4("BDM (WideResNet-38)", 71.0, 71.0, 36.7, _SAL, _SAL),
        _table_4("RCA + OOA (WideResNet-38)", 71.1, 71.6, 35.7, _SAL, _SAL),
        _table_4("RCA + EPS (WideResNet-38)", 72.2, 72.8, 36.8, _SAL, _SAL),
        _table_4("HGNN (WideResNet-38)", 70.5, 71.0, 34.5, _BOTH, _SAL),
        _table_4("EPS (WideResNet-38)", 70.9, 70.8, note=_BOTH),
        _table_4("RPIM (WideResNet-38)", 71.4, 71.4, note=_BOTH),
        _table_4("L2G (WideResNet-38)", 72.1, 71.7, 44.2, _BOTH, _SAL),
        _table_4("MCTformer (DeiT-S)", 71.9, 71.6, 42.0, "network pre-trained on VOC", needs="MCTformer"),
        _table_4("MCTformer + LPCAM (DeiT-S)", 72.6, 72.4, 42.8, "network pre-trained on VOC", needs="MCTformer"),
    ),
    orders=(Order("IRN + LPCAM", "IRN"), Order("AMN + LPCAM", "AMN")),
    notes=(
        "the paper prints 71.8 for EDAM on VOC test here and 70.6 in its Table 3; 44.2 for RIB on COCO, where AMN "
        "prints 43.8. Light recipes train an FPN on EfficientNet-Lite0 in place of DeepLabV2",
    ),
    used=_BOTH_DATA,
)  # fmt: skip

EXPERIMENTS = (L2, L3, L4)
