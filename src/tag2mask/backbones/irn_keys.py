"""The names in IRN's checkpoint of its boundary network, ``res50_irn.pth``, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from tag2mask.backbones.keymaps import State, without_aliases

_STAGES = {"stage1.0.": "conv1.", "stage1.1.": "bn1."} | {f"stage{n + 1}.0.": f"layer{n}." for n in range(1, 5)}
"""Second names of the backbone's tensors."""
_LISTS = {"backbone": "stage", "edge_layers": "fc_edge", "dp_layers": "fc_dp"}
"""Lists that name modules again, counted from 0 where the modules' own names count from 1."""
_COUNTED = re.compile(rf"({'|'.join(_LISTS)})\.(\d+)\.(.+)")
_LEFT_OUT = re.compile(r"(fc_dp\d|path_indices\d|disp_target$|mean_shift\.)")
"""The displacement branch, which only instance masks need, and buffers of its training."""
_LEVEL = re.compile(r"fc_edge([1-5])\.([01])\.(.+)")


def official_boundary(state: Mapping[str, Tensor], source: str) -> State:
    """The entries of an official ``res50_irn.pth`` under the names of `BoundaryNet`.

    The file names each tensor two or three times; a second name is ignored only if its tensor is the same. The
    displacement branch is left out. Unknown names stay as they are, so that strict loading refuses them.

    Args:
        state: the file's tensors by name.
        source: the file, for the error text.

    Raises:
        WeightsError: an alias that differs from its tensor.
    """
    result = without_aliases(state, _first_name, source)
    return {_own_name(name): value for name, value in result.items() if not _LEFT_OUT.match(name)}


def _first_name(name: str) -> str:
    """The name that IRN's code gave a tensor first."""
    counted = _COUNTED.fullmatch(name)
    if counted is not None:
        name = f"{_LISTS[counted[1]]}{int(counted[2]) + 1}.{counted[3]}"
    for alias, target in _STAGES.items():
        if name.startswith(alias):
            return f"resnet50.{target}{name.removeprefix(alias)}"
    return name


def _own_name(name: str) -> str:
    """`BoundaryNet`'s name of an entry; unknown names are returned as they are."""
    if name.startswith("resnet50."):
        return f"body.{name.removeprefix('resnet50.')}"
    if name.startswith("fc_edge6."):
        return f"join.{name.removeprefix('fc_edge6.')}"
    level = _LEVEL.fullmatch(name)
    if level is None:
        return name
    return f"{('reduce', 'norms')[int(level[2])]}.{int(level[1]) - 1}.{level[3]}"
