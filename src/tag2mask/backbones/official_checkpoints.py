"""The official checkpoints of IRN, LPCAM, AMN and DeepLabV2: their names of tensors, and ours.

IRN's, LPCAM's and AMN's files name each tensor two or three times; a second name is ignored only if its tensor is the
same. Unknown names stay as they are, so that strict loading refuses them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tag2mask.backbones.state_dict import State
from tag2mask.core.errors import WeightsError

_ALIASES = {
    "stage1.0.": "conv1.", "stage1.1.": "bn1.", "stage1.4.": "layer1.",
    "stage2.0.": "layer2.", "stage3.0.": "layer3.", "stage4.0.": "layer4.",
}  # fmt: skip
"""Second names that IRN's, LPCAM's and AMN's checkpoints give to the tensors of ``resnet50.``"""
_CODE = re.compile(r"(?:label_enc|newly_added\.1)\.(.+)")
_HEAD = re.compile(r"(?:classifier\.1|newly_added\.0\.1)\.c([0-3])\.(.+)")
_BODY = {"stage1.0.": "conv1.", "stage1.1.": "bn1."} | {f"stage{n + 1}.0.": f"layer{n}." for n in range(1, 5)}
"""Second names of the backbone's tensors."""
_LISTS = {"backbone": "stage", "edge_layers": "fc_edge", "dp_layers": "fc_dp"}
"""Lists that name modules again, counted from 0 where the modules' own names count from 1."""
_COUNTED = re.compile(rf"({'|'.join(_LISTS)})\.(\d+)\.(.+)")
_LEFT_OUT = re.compile(r"(fc_dp\d|path_indices\d|disp_target$|mean_shift\.)")
"""The displacement branch, which only instance masks need, and buffers of its training."""
_LEVEL = re.compile(r"fc_edge([1-5])\.([01])\.(.+)")
_CLASSIFIER = "fc."
_HEAD_WEIGHT = "fc.weight"
_COCO_LABELS = 91
"""Rows of the head that was trained on COCO's masks; ImageNet's has 1000."""
_FINISHED = ("base.", "scale.", "aspp.", "module.")
"""How names begin in files of a whole DeepLabV2."""


def is_official_classifier(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of IRN's, LPCAM's or AMN's classifier checkpoint."""
    return any(k.startswith("resnet50.") for k in state)


def official_classifier(state: Mapping[str, Tensor], source: str) -> State:
    """The entries of an official ``res50_cam.pth`` as ``body.*`` and ``head.weight``; ``source`` is the file."""
    return _without_aliases(state, _classifier_name, source)


def official_amn(state: Mapping[str, Tensor], source: str) -> State:
    """The entries of an official ``res50_amn.pth`` under the names of `BackboneAmn`; ``source`` is the file."""
    return _without_aliases(state, _amn_name, source)


def official_boundary(state: Mapping[str, Tensor], source: str) -> State:
    """The entries of an official ``res50_irn.pth`` under the names of `BoundaryNet`; ``source`` is the file.

    The displacement branch is left out.
    """
    result = _without_aliases(state, _first_name, source)
    return {_boundary_name(name): value for name, value in result.items() if not _LEFT_OUT.match(name)}


def official_deeplab(state: Mapping[str, Tensor], pretrained: str, source: str) -> State:
    """The entries of a file of initial weights without its classifier, under the names of `ResNet101Caffe`.

    The names are the same; unknown ones stay, so that strict loading refuses them.

    Args:
        state: the file's tensors by name.
        pretrained: what the user says that the file was trained on: ``imagenet`` or ``coco``.
        source: the file, for the error text.
    """
    whole = next((name for name in state if name.startswith(_FINISHED)), None)
    if whole is not None:
        raise WeightsError(
            f"{source} holds a whole DeepLabV2 ('{whole}'), which has seen masks of its data set; expected initial "
            f"weights, deeplabv1_resnet101-imagenet.pth or deeplabv1_resnet101-coco.pth"
        )
    head = state.get(_HEAD_WEIGHT)
    if head is not None and (len(head) == _COCO_LABELS) != (pretrained == "coco"):
        actual = "coco" if len(head) == _COCO_LABELS else "imagenet"
        raise WeightsError(
            f"{source} has a classifier of {len(head)} labels, so it was trained on {actual}, not on {pretrained}; set "
            f"network.pretrained={actual}"
        )
    return {name: value for name, value in state.items() if not name.startswith(_CLASSIFIER)}


def _without_aliases(state: Mapping[str, Tensor], name_of: Callable[[str], str], source: str) -> State:
    """One entry for each tensor of a file that names tensors several times.

    Args:
        state: the file's tensors by name.
        name_of: from any of a tensor's names to one of them all.
        source: the file, for the error text.
    """
    result: State = {}
    first: dict[str, str] = {}
    for name, value in state.items():
        target = name_of(name)
        known = result.setdefault(target, value)
        if not torch.equal(known, value):
            raise WeightsError(
                f"{source} contradicts itself: '{name}' and '{first[target]}' are one tensor, but differ"
            )
        first.setdefault(target, name)
    return result


def _classifier_name(name: str) -> str:
    """Our name of an entry of an official classifier checkpoint; unknown names are returned as they are."""
    if name in ("classifier.weight", "newly_added.0.weight"):
        return "head.weight"
    if name.startswith("resnet50."):
        return f"body.{name.removeprefix('resnet50.')}"
    stage = name
    if name.startswith("backbone.") and name[9:10] in ("0", "1", "2", "3"):
        stage = f"stage{int(name[9]) + 1}{name[10:]}"
    for alias, target in _ALIASES.items():
        if stage.startswith(alias):
            return f"body.{target}{stage.removeprefix(alias)}"
    return name


def _amn_name(name: str) -> str:
    """`BackboneAmn`'s name of an entry; unknown names are returned as they are."""
    code, head = _CODE.fullmatch(name), _HEAD.fullmatch(name)
    if code is not None:
        return f"codes.4.{code[1]}"
    if head is not None:
        return f"head.convs.{head[1]}.{head[2]}"
    return _classifier_name(name)


def _first_name(name: str) -> str:
    """The name that IRN's code gave a tensor first."""
    counted = _COUNTED.fullmatch(name)
    if counted is not None:
        name = f"{_LISTS[counted[1]]}{int(counted[2]) + 1}.{counted[3]}"
    for alias, target in _BODY.items():
        if name.startswith(alias):
            return f"resnet50.{target}{name.removeprefix(alias)}"
    return name


def _boundary_name(name: str) -> str:
    """`BoundaryNet`'s name of an entry; unknown names are returned as they are."""
    if name.startswith("resnet50."):
        return f"body.{name.removeprefix('resnet50.')}"
    if name.startswith("fc_edge6."):
        return f"join.{name.removeprefix('fc_edge6.')}"
    level = _LEVEL.fullmatch(name)
    if level is None:
        return name
    return f"{('reduce', 'norms')[int(level[2])]}.{int(level[1]) - 1}.{level[3]}"
