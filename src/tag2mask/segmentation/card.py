"""The card of a network on the hub: what it does, what made it, what was measured, what supervision it has seen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tag2mask.core.names import shown
from tag2mask.segmentation.origin import Number, Origin

_UNKNOWN = "not known"
_MARKUP = re.compile(r"[\\`*{}\[\]#|~!$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/|(?<=www)\.")
_EXAMPLE = """\
```python
import tag2mask

model = tag2mask.load({name})
mask = model("photo.jpg")
mask.image().save("mask.png")
```
"""


def model_card(network: Mapping[str, Any], classes: Sequence[str], origin: Origin, name: str) -> str:
    """The card in Markdown, with the metadata that the hub reads on top.

    Args:
        network: settings of the network as plain values.
        classes: C names.
        origin: where it comes from.
        name: by which it is loaded in the example.
    """
    facts = {
        "network": f"{network['kind']} on {network['encoder']}",
        "first weights of the encoder": origin.initial or _UNKNOWN,
        "recipe": f"{origin.recipe}, stage {origin.stage}, seed {origin.seed}" if origin.recipe else _UNKNOWN,
        "trained on": f"{origin.data}, {origin.n_images} images" if origin.data else _UNKNOWN,
        "supervision seen (ledger)": ", ".join(origin.ledger) or _UNKNOWN,
    }
    labels = ", ".join(["background", *map(_text, classes)])
    parts = [
        "---\nlibrary_name: tag2mask\npipeline_tag: image-segmentation\n"
        "tags:\n- semantic-segmentation\n- weakly-supervised\n---\n",
        f"# {_text(name.rpartition('/')[2])}\n",
        f"Gives each pixel of a photo one of {len(classes) + 1} labels: {labels}.\n",
        "## Use\n",
        _EXAMPLE.format(name=json.dumps(shown(name), ensure_ascii=False)),
        "## What made it\n",
        "\n".join(["| | |", "|---|---|", *(f"| {key} | {_text(value)} |" for key, value in facts.items())]) + "\n",
        "## What was measured\n",
        _table(origin),
    ]
    return "\n".join(parts)


def _table(origin: Origin) -> str:
    if not origin.numbers:
        return "Nothing was measured, or the run that measured it is not known.\n"
    lines = [
        "| split | images | post-processing | mIoU (%) | first weights | ledger | seed |",
        "|---|---|---|---|---|---|---|",
        *(_line(number, origin) for number in origin.numbers),
    ]
    return "\n".join(lines) + "\n"


def _line(number: Number, origin: Origin) -> str:
    miou = "-" if number.miou is None else f"{number.miou:.1f}"
    cells = [number.split, str(number.n_images), number.how, miou, origin.initial, ", ".join(origin.ledger)]
    return f"| {' | '.join(map(_text, cells))} | {number.seed} |"


def _text(name: str) -> str:
    """A name as plain text of Markdown: no markup, no HTML, no link, no cell of a table ends in it."""
    text = shown(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\g<0>", text)
