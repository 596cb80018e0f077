"""Settings of a segmentation network, its training and its predictions; no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tag2mask.backbones.settings import BackboneSettings, unreadable_file, weights_fingerprint
from tag2mask.config.settings import Settings
from tag2mask.core.errors import WeightsError, unknown
from tag2mask.core.files import expanded
from tag2mask.segmentation.predict.options import Fit
from tag2mask.training.settings import HeadScheduleSettings

CAFFE = "resnet101_caffe"
"""The ResNet-101 of DeepLabV2's own files."""
DEEPLAB, UPERNET = "deeplabv2", "upernet"
LIBRARY = (
    "deeplabv3", "deeplabv3plus", "dpt", "fpn", "linknet", "manet", "pan", "pspnet", "segformer", "unet",
    "unetplusplus",
)  # fmt: skip
"""Architectures taken from segmentation-models-pytorch as they are; what their decoders take is known to it."""
_WIDEST, _MOST_VALUES = 65_536, 16
"""Largest number for a decoder, and how many for one setting: more is a mistake that would fill the memory."""
NETWORK_KINDS = (DEEPLAB, UPERNET, *LIBRARY)
_FROM = ("bundled", "timm", "none")


class NetworkSettings(Settings):
    """A segmentation network: architecture, encoder, and the weights it begins with, which must be chosen."""

    kind: str = Field(default="fpn", description=f"architecture: {DEEPLAB}, {UPERNET}, or one of {', '.join(LIBRARY)}")
    encoder: str = Field(
        default="efficientnet_lite0", description=f"efficientnet_lite0, {CAFFE} ({DEEPLAB} only) or any name of timm's"
    )
    weights: str = Field(
        min_length=1,
        description="the encoder's first weights, a choice without default: bundled (ImageNet, efficientnet_lite0 "
        "only), timm (downloads), none, or a .safetensors/.pth file",
    )
    pretrained: Literal["imagenet", "coco"] | None = Field(
        default=None,
        description="what a weight file was trained on, needed with one: imagenet (no masks), or coco (masks; the "
        "ledger gets pixel-masks:init)",
    )
    decoder: dict[str, bool | int | float | str | tuple[int, ...]] = Field(
        default={}, description="how the decoder differs from the library's own, such as decoder_pyramid_channels: 128"
    )
    drop_path: float | None = Field(
        default=None, ge=0, lt=1, description="stochastic depth of the encoder, as published 0.3 for Swin; null: timm's"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind not in NETWORK_KINDS:
            raise ValueError(unknown("network", self.kind, NETWORK_KINDS))
        if self.encoder == CAFFE and self.kind != DEEPLAB:
            raise ValueError(f"encoder = {CAFFE} is of kind = {DEEPLAB} only; choose one of timm's for {self.kind}")
        self._check_decoder()
        if self.is_file and self.pretrained is None:
            raise ValueError(
                f"weights = {self.weights}: say what the file was trained on, pretrained=imagenet or pretrained=coco"
            )
        if not self.is_file and self.pretrained is not None:
            raise ValueError(f"pretrained = {self.pretrained} belongs to a weight file; leave it out")
        return self

    def _check_decoder(self) -> None:
        if self.decoder and self.kind not in LIBRARY:
            raise ValueError(f"decoder = {self.decoder}: that of kind = {self.kind} is as published; leave it out")
        for name, value in self.decoder.items():
            values = value if isinstance(value, tuple) else (value,)
            least = 0 if name.endswith("dropout") else 1
            numbers = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
            if len(values) > _MOST_VALUES or not all(least <= v <= _WIDEST for v in numbers):
                raise ValueError(
                    f"decoder.{name} = {value!s:.80}: expected numbers from {least} to {_WIDEST}, at most "
                    f"{_MOST_VALUES}"
                )

    @property
    def is_file(self) -> bool:
        """Whether the first weights are a file of the user's."""
        return self.weights not in _FROM

    @property
    def initial(self) -> str:
        """What the first weights have seen, as it stands beside every number: imagenet, coco, timm or none."""
        return self.pretrained or {"bundled": "imagenet"}.get(self.weights, self.weights)

    def supervision(self) -> frozenset[str]:
        """What the first weights add to the ledger."""
        return frozenset({"pixel-masks:init"}) if self.pretrained == "coco" else frozenset()

    def fingerprint(self) -> str:
        """What identifies the first weights, as 64 hex digits."""
        if self.encoder == CAFFE and self.is_file and (problem := unreadable_file(expanded(self.weights))):
            raise WeightsError(
                f"network.weights = '{self.weights}': {problem}. {CAFFE} begins with deeplab-pytorch's "
                f"files alone, deeplabv1_resnet101-imagenet.pth or -coco.pth: name yours with network.weights=FILE"
            )
        return weights_fingerprint(BackboneSettings(name=self.encoder, weights=self.weights))


class SegmentTrainSettings(HeadScheduleSettings):
    """How long, in which steps and on which crops a segmentation network is trained."""

    epochs: int = Field(default=6, ge=1, description="passes over the images; iterations, where given, decide instead")
    iterations: int | None = Field(default=None, ge=1, description="steps of the whole training, instead of epochs")
    accumulate: int = Field(
        default=4,
        ge=1,
        description="parts a batch is computed in, to save memory; the loss stays that of the whole batch; the number "
        "of processes divides it",
    )
    lr: float = Field(default=6e-5, gt=0, description="learning rate of the encoder")
    head_lr: float = Field(
        default=6e-4, gt=0, description=f"learning rate of the rest; biases of {DEEPLAB}'s head have twice that"
    )
    warmup: int = Field(default=0, ge=0, description="first steps, over which the rates rise from next to nothing")
    hold: int = Field(default=1, ge=1, description="steps after which the rates are set anew (as published, 10)")
    balanced: bool = Field(
        default=False, description="mean over background plus mean over foreground pixels, else one mean over all"
    )
    crop: int = Field(default=256, ge=1, description="side of the square crop in pixels")
    fit: Fit | None = Field(
        default=None, description="[long, short] side that images are first brought into, as published [2048, 512]"
    )
    rescale: tuple[float, float] = Field(default=(0.5, 1.5), description="range of the random factor on both sides")
    scales: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="the random factor is one of these, instead of rescale"
    )
    max_share: float | None = Field(
        default=None, gt=0, le=1, description="crops that one label fills to this share are drawn anew (ten times)"
    )
    photometric: bool = Field(default=False, description="distort brightness, contrast, saturation and hue")

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if not 0 < self.rescale[0] <= self.rescale[1]:
            raise ValueError(f"rescale = {list(self.rescale)}: expected [smallest, largest], both above 0")
        if self.scales is not None and min(self.scales) <= 0:
            raise ValueError(f"scales = {list(self.scales)}: expected factors above 0")
        if self.iterations is not None and self.warmup >= self.iterations:
            raise ValueError(f"warmup = {self.warmup}: expected fewer than iterations = {self.iterations}")
        return self

    def for_images(self, n: int) -> Self:
        """The same with as many epochs as its iterations take over ``n`` images, or ``min_steps`` where it has none."""
        if self.iterations is None:
            return super().for_images(n)
        return self.model_copy(update={"epochs": -(-self.iterations // self.batches(n))})


class SegmenterSettings(Settings):
    """A segmentation network and its training on masks."""

    network: NetworkSettings = Field(description="architecture, encoder and first weights")
    train: SegmentTrainSettings = Field(default=SegmentTrainSettings(), description="schedule, loss and crops")
    truth: bool = Field(
        default=False, description="train on ground truth instead of masks that are read (ledger: pixel-masks)"
    )
    split: str | None = Field(default=None, description="a split of the data; null: the one that trains")
