"""The names in AMN's own checkpoint, ``res50_amn.pth``, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from tag2mask.backbones.keymaps import State, canonical, without_aliases

_CODE = re.compile(r"(?:label_enc|newly_added\.1)\.(.+)")
_HEAD = re.compile(r"(?:classifier\.1|newly_added\.0\.1)\.c([0-3])\.(.+)")


def official_amn(state: Mapping[str, Tensor], source: str) -> State:
    """The entries of an official ``res50_amn.pth`` under the names of `BackboneAmn`.

    The file names each tensor two or three times; a second name is ignored only if its tensor is the same. Unknown
    names stay as they are, so that strict loading refuses them.

    Args:
        state: the file's tensors by name.
        source: the file, for the error text.

    Raises:
        WeightsError: an alias that differs from its tensor.
    """
    return without_aliases(state, _own_name, source)


def _own_name(name: str) -> str:
    """`BackboneAmn`'s name of an entry; unknown names are returned as they are."""
    code, head = _CODE.fullmatch(name), _HEAD.fullmatch(name)
    if code is not None:
        return f"codes.4.{code[1]}"
    if head is not None:
        return f"head.convs.{head[1]}.{head[2]}"
    return canonical(name)
