"""The names in deeplab-pytorch's files of initial weights, ``deeplabv1_resnet101-{imagenet,coco}.pth``, and ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tag2mask.backbones.keymaps import State
from tag2mask.core.errors import WeightsError

_HEAD = "fc."
_HEAD_WEIGHT = "fc.weight"
_COCO_LABELS = 91
"""Rows of the head that was trained on COCO's masks; ImageNet's has 1000."""
_FINISHED = ("base.", "scale.", "aspp.", "module.")
"""How names begin in files of a whole DeepLabV2."""


def official_deeplab(state: Mapping[str, Tensor], pretrained: str, source: str) -> State:
    """The entries of a file of initial weights without its classifier, under the names of `ResNet101Caffe`.

    The names are the same; unknown ones stay, so that strict loading refuses them.

    Args:
        state: the file's tensors by name.
        pretrained: what the user says that the file was trained on: ``imagenet`` or ``coco``.
        source: the file, for the error text.

    Raises:
        WeightsError: a file of a whole DeepLabV2, or one whose classifier contradicts ``pretrained``.
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
    return {name: value for name, value in state.items() if not name.startswith(_HEAD)}
