"""Networks as the Hugging Face hub keeps them: weights, settings, a card with provenance, numbers and supervision."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tag2mask.core.errors import StageError, WeightsError
from tag2mask.core.files import read_json, write_json, write_text
from tag2mask.core.names import shown
from tag2mask.segmentation.networks.base import Segmenter
from tag2mask.segmentation.networks.factory import save_segmenter
from tag2mask.segmentation.publish.provenance import Number, Provenance

CONFIG, MODEL, CARD = "config.json", "model.safetensors", "README.md"
FILES = (CONFIG, MODEL, CARD)
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


def model_card(network: Mapping[str, Any], classes: Sequence[str], origin: Provenance, name: str) -> str:
    """The card in Markdown, with the metadata that the hub reads on top; ``name`` is what the example loads."""
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


def _table(origin: Provenance) -> str:
    if not origin.numbers:
        return "Nothing was measured, or the run that measured it is not known.\n"
    lines = [
        "| split | images | post-processing | mIoU (%) | of the classes | F1 of the classes | first weights | ledger "
        "| seed |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(number, origin) for number in origin.numbers),
    ]
    return "\n".join(lines) + "\n"


def _line(number: Number, origin: Provenance) -> str:
    means = (number.miou, number.miou_foreground, number.f1_foreground)
    shown = ["-" if mean is None else f"{mean:.1f}" for mean in means]
    cells = [number.split, str(number.n_images), number.how, *shown, origin.initial, ", ".join(origin.ledger)]
    return f"| {' | '.join(map(_text, cells))} | {number.seed} |"


def _text(name: str) -> str:
    """A name as plain text of Markdown: no markup, no HTML, no link, no cell of a table ends in it."""
    text = shown(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\g<0>", text)


def write_folder(net: Segmenter, classes: Sequence[str], origin: Provenance, folder: Path, repo_id: str | None) -> None:
    """Write a network in the form that `fetch` brings back, see `SegmentationModel.save_pretrained`."""
    _check_target(folder)
    save_segmenter(net, folder / MODEL, tuple(classes))
    settings = net.settings.model_dump(mode="json", exclude={"weights", "pretrained"})
    config: dict[str, Any] = {
        "library": "tag2mask", "classes": list(classes), "mean": list(net.mean), "std": list(net.std),
        "network": settings, "origin": origin.text(),
    }  # fmt: skip
    write_json(folder / CONFIG, config)
    write_text(folder / CARD, model_card(settings, classes, origin, repo_id or folder.name))


def fetch(repo_id: str, revision: str | None = None) -> Path:
    """The local copy of a network ``owner/name`` of the hub, at a branch, tag or commit; downloaded if not there."""
    from huggingface_hub import snapshot_download

    with _on_the_hub(
        f"'{repo_id}' does not exist here, and was not fetched from the hub",
        "Check the name, or the path; for a private one log in with: hf auth login",
    ):
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES)))
    if not (folder / CONFIG).is_file():
        raise WeightsError(f"'{repo_id}' on the hub has no {CONFIG}: name a network that tag2mask saved")
    return folder


def push(folder: Path, repo_id: str, private: bool | None, token: str | None, message: str) -> str:
    """Upload a folder that `write_folder` wrote, and return the address of the commit."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with _on_the_hub(f"'{repo_id}' was not uploaded", "Log in with a token that may write: hf auth login"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message).commit_url)


@contextmanager
def _on_the_hub(failed: str, advice: str) -> Iterator[None]:
    """Whatever the hub's client raises, as an error of ours that says what failed."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (HfHubHTTPError, HFValidationError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        refused = lines[0].rstrip(".") if lines else type(error).__name__
        raise WeightsError(f"{failed}: {refused}. {advice}") from error
    except Exception as error:  # its releases fail with errors of several libraries where there is no network
        raise WeightsError(
            f"{failed}: the hub cannot be reached (no network, or HF_HUB_OFFLINE is set; {type(error).__name__}). "
            f"{advice}"
        ) from error


def _check_target(folder: Path) -> None:
    """Refuse a folder with anything that is not ours: `FILES` are names that other libraries write too."""
    if folder.is_file():
        raise StageError(f"{folder} is a file; name a new folder")
    held = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if held and not _is_own(folder / CONFIG):
        raise StageError(f"{folder} holds other things ({', '.join(held[:3])}); nothing was written. Name a new folder")


def _is_own(path: Path) -> bool:
    """Whether a `CONFIG` is one that `write_folder` wrote."""
    try:
        config = read_json(path)
    except StageError:  # absent, or no JSON
        return False
    return isinstance(config, dict) and config.get("library") == "tag2mask"
