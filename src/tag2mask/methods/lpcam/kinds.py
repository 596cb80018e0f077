"""The stages of LPCAM: clustering prototypes, and the maps made with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from tag2mask.backbones.settings import BackboneSettings
from tag2mask.config.settings import UNPRINTED, Settings
from tag2mask.core.errors import ConfigError
from tag2mask.evaluation.thresholds import ScoreForm
from tag2mask.inference.settings import MapsSettings, reads_raw
from tag2mask.methods.stage_kinds import FeatureMapStage, Makes, SplitRole, TrainingStage

ContextSet = Literal["image", "negatives", "both"]
_DROP = re.compile(r"(?P<cls>.+) (?P<side>foreground|context):(?P<number>\d+)")


class PrototypeSettings(Settings):
    """Clustering and choice of prototypes (LPCAM section 3.1, eqs. 2-4)."""

    images_per_class: int | None = Field(
        default=60, ge=1, description="seeded sample of each class's images; null: all"
    )
    split: str | None = Field(default=None, description="a split of the data; null: the one whose maps were made")
    n_prototypes: int = Field(default=12, ge=1, description="K, clusters of foreground and of context each")
    tau: float = Field(default=0.1, ge=0, le=1, description="eq. 2: foreground where CAM >= tau")
    mu_f: float = Field(default=0.9, ge=0, le=1, description="eq. 3: foreground centres scoring above are kept")
    mu_b: float = Field(default=0.9, ge=0, le=1, description="eq. 4: context centres scoring below are kept")
    mu_b_low: float = Field(default=0.0, ge=0, le=1, description="context centres scoring at or below it are dropped")
    max_vectors: int | None = Field(
        default=None, ge=1, description="seeded sample of a class's vectors; null: all, on disk"
    )
    memory_mb: int = Field(default=512, ge=16, description="memory that clustering may use for vectors")
    max_iterations: int = Field(default=100, ge=1, description="cap on k-means iterations")
    scores: ScoreForm = Field(
        default="normalised",
        description="raw: scores on one scale for all images part foreground from context, at the threshold that is "
        "read; at tau where none is",
        json_schema_extra=UNPRINTED,
    )
    features: Literal["last", "levels"] = Field(
        default="last",
        description="what is clustered and compared: the classifier's last features, or the levels that these are "
        "joined of (classifier.backbone.levels), each of unit length, which tell the parts of things apart",
        json_schema_extra=UNPRINTED,
    )
    probability: Literal["softmax", "sigmoid"] = Field(
        default="softmax",
        description="what mu_f and mu_b are compared with: which of the classes a centre is, as published, or whether "
        "it is of the class at all, which a classifier that pools cells by itself says, see TagNet",
        json_schema_extra=UNPRINTED,
    )
    context: ContextSet = Field(
        default="image",
        description="where a class's context is taken: in its own images; in as many images without it, a seeded "
        "sample (negatives); in both. Where no background competes, image means both",
        json_schema_extra=UNPRINTED,
    )


class LpcamSettings(MapsSettings):
    """Maps from prototypes (LPCAM eqs. 5, 6)."""

    foreground_only: bool = Field(default=False, description="LPCAM-F: leave the context term BG out")
    drop: tuple[str, ...] = Field(default=(), description="prototypes left out by hand, such as 'train foreground:3'")

    @field_validator("drop")
    @classmethod
    def _form(cls, drops: tuple[str, ...]) -> tuple[str, ...]:
        for text in drops:
            parse_drop(text)
        return drops


def parse_drop(text: str) -> tuple[str, str, int]:
    """Class name, side and number of a prototype written as ``train foreground:3``.

    Raises:
        ValueError: it is not of that form.
    """
    match = _DROP.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' does not name a prototype; write CLASS foreground:N or CLASS context:N")
    return match["cls"], match["side"], int(match["number"])


def dropped(settings: Settings) -> tuple[str, ...]:
    """The prototypes that the settings of a stage leave out by hand; none where it is not of LPCAM's maps."""
    return settings.drop if isinstance(settings, LpcamSettings) else ()


def by_levels(prototypes: Settings) -> bool:
    """Whether the settings of what made prototypes say that they are of a network's levels."""
    return isinstance(prototypes, PrototypeSettings) and prototypes.features == "levels"


def check_levels(settings: PrototypeSettings, read: Mapping[str, Settings]) -> None:
    """See that the classifier joins levels where these are clustered.

    Raises:
        ConfigError: it joins none.
    """
    backbone = getattr(read["classifier"], "backbone", None)
    if by_levels(settings) and isinstance(backbone, BackboneSettings) and backbone.levels is None:
        raise ConfigError(
            f"prototypes: features = levels, but the classifier's network '{backbone.name}' joins none "
            "(backbone.levels = null): set classifier.backbone.levels=[4,8,16,32] and classifier.backbone.stride=null, "
            "or prototypes.features=last"
        )


KINDS = (
    TrainingStage(
        name="prototypes",
        makes=Makes.PROTOTYPES,
        settings=PrototypeSettings,
        reads={"classifier": Makes.WEIGHTS, "maps": Makes.MAPS},
        may_read={"threshold": Makes.THRESHOLD},
        reads_raw=reads_raw,
        reads_any=True,
        same={"maps": "classifier"},
        follows_background=True,
        split=lambda settings: settings.split or SplitRole.INFER,
        runner="tag2mask.methods.lpcam.stage:cluster",
        check_reads="tag2mask.methods.lpcam.kinds:check_levels",
    ),
    FeatureMapStage(
        name="lpcam",
        settings=LpcamSettings,
        reads={"classifier": Makes.WEIGHTS, "prototypes": Makes.PROTOTYPES},
        same={"prototypes": "classifier"},
        runner="tag2mask.methods.lpcam.stage:program",
        check_data="tag2mask.methods.lpcam.stage:check_data",
        levels=lambda read: by_levels(read["prototypes"]),
    ),
)
