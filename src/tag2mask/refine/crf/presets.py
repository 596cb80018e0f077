"""The parameters of dense CRF that weakly supervised segmentation uses, one set for each published system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tag2mask.core.errors import ConfigError, unknown


@dataclass(frozen=True, slots=True)
class CRFPreset:
    """Parameters of a dense CRF's energy.

    Attributes:
        gaussian_sxy: standard deviation of the Gaussian kernel, pixels.
        gaussian_compat: its weight; above 0 near pixels attract each other's labels (Potts).
        bilateral_sxy: standard deviation of the bilateral kernel in space, pixels.
        bilateral_srgb: its standard deviation in colour, in the image's 0 to 255.
        bilateral_compat: its weight.
        iterations: of mean field.

    Raises:
        ConfigError: a standard deviation that is not above 0, or fewer than 0 iterations.
    """

    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float
    iterations: int = 10

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: a standard deviation is above 0")
        if self.iterations < 0:
            raise ConfigError(f"iterations = {self.iterations}: expected 0 or more")


PresetName = Literal["irn", "psa", "edam", "deeplabv2", "mctformer"]
"""The keys of `PRESETS`, for the schemas of settings."""

PRESETS: dict[str, CRFPreset] = {
    "irn": CRFPreset(3, 3, 50, 5, 10),  # labels for IRN, also of AMN and LPCAM
    "psa": CRFPreset(3, 3, 80, 13, 10),  # pairs of labels for AffinityNet, also of MCTformer
    "edam": CRFPreset(3, 3, 80, 13, 10, iterations=3),
    "deeplabv2": CRFPreset(1, 3, 67, 3, 4),  # predictions of DeepLabV2
    "mctformer": CRFPreset(4, 3, 83, 5, 3),  # predictions of MCTformer's segmentation network
}
"""Published parameter sets by name."""


def find_preset(preset: str | CRFPreset) -> CRFPreset:
    """The preset of a name, or the one given."""
    if isinstance(preset, CRFPreset):
        return preset
    if preset not in PRESETS:
        raise ConfigError(unknown("CRF preset", preset, PRESETS))
    return PRESETS[preset]
