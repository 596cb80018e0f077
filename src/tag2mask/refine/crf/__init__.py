"""Dense CRF: mean-field inference with Gaussian and bilateral kernels on permutohedral lattices."""

from tag2mask.refine.crf.api import DenseCRF
from tag2mask.refine.crf.presets import PRESETS, CRFPreset

__all__ = ["PRESETS", "CRFPreset", "DenseCRF"]
