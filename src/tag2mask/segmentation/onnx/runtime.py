"""Segmentation networks in ONNX, as `tag2mask export --format onnx` writes them, run by onnxruntime on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tag2mask.backbones.files import saved_classes
from tag2mask.config.settings import Settings, validate
from tag2mask.core.errors import ConfigError, DataError, WeightsError
from tag2mask.core.files import need_regular, reason

ENTRY = "tag2mask"
"""Key of the file's metadata that holds settings and class names as JSON."""
SCHEMA = 1
_FLOATS = "tensor(float)"
_FOLDER_OF_PARTS = "session.model_external_initializers_file_folder_path"
MISSING = "{what}, which the extra 'onnx' brings: pip install 'tag2mask[onnx]'"


class _About(Settings):
    """What is used of the metadata."""

    classes: tuple[str, ...] = Field(min_length=1)
    max_side: int | None = Field(ge=1)
    min_side: int | None = Field(default=None, ge=1)
    background: bool = True


class OnnxSegmenter:
    """A segmentation network in ONNX; colours are normalised inside, so ``mean`` is 0 and ``std`` 1."""

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, path: Path) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise ConfigError(MISSING.format(what=f"{path} needs onnxruntime"))
        self.path = path
        self._session = _session(path)
        about = _about(_metadata(self._session, path), path)
        self.classes, self.max_side, self.min_side = saved_classes(about.classes, path), about.max_side, about.min_side
        self.background = about.background
        _check_form(self._session, len(self.classes) + self.background, path)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits on the CPU, (N, C + 1, H, W), background first, or (N, C, H, W) without, of RGB images (N, 3, H, W).

        Images are in [0, 1], of any size.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
            raise DataError(f"images have shape {tuple(images.shape)}: expected (N, 3, H, W) with at least one pixel")
        values = np.ascontiguousarray(images.detach().cpu().numpy(), dtype=np.float32)
        try:
            (logits,) = self._session.run(["logits"], {"images": values})
        except Exception as error:  # onnxruntime's own kinds share no base of their own
            raise DataError(
                f"{self.path} cannot segment images of {images.shape[3]} x {images.shape[2]} pixels: "
                f"{reason(error):.500}. Give larger ones, or fewer at once where memory is short"
            ) from error
        if logits.ndim != 4 or len(logits) != len(values):
            raise DataError(
                f"{self.path} gives scores of shape {logits.shape} for images of shape {values.shape}: export it again"
            )
        return torch.from_numpy(logits)


def _session(path: Path) -> Any:
    import onnxruntime

    try:
        content = need_regular(path).read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path} does not exist: expected a network that 'tag2mask export --format onnx' wrote"
        ) from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {reason(error)}. Allow it, or name another file") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # not errors, which are raised as well
    options.add_session_config_entry(_FOLDER_OF_PARTS, os.devnull)  # no folder: what is written is in one file
    try:
        return onnxruntime.InferenceSession(
            content,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # which prints and tries again
        )
    except Exception as error:  # onnxruntime's own kinds share no base of their own
        raise WeightsError(
            f"{path} cannot be read as ONNX: {reason(error):.500}. Copy or export it again, which gives one file"
        ) from error


def _metadata(session: Any, path: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = session.get_modelmeta().custom_metadata_map
        _ends(session)
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} holds names that are not UTF-8. Copy or export it again") from error
    return found


def _ends(session: Any) -> list[list[tuple[str, list[Any], str]]]:
    """Name, channels and type of each input, and of each output."""
    ends = (session.get_inputs(), session.get_outputs())
    return [[(e.name, (e.shape or [])[1:2], e.type) for e in one] for one in ends]


def _about(metadata: dict[str, str], path: Path) -> _About:
    if ENTRY not in metadata:
        raise WeightsError(
            f"{path} is an ONNX file of another network: its metadata has no entry '{ENTRY}', so its colours and "
            f"classes are not known. Write one: tag2mask export RUN --format onnx --out FILE.onnx"
        )
    try:
        about: Any = json.loads(metadata[ENTRY])
        if about["schema"] != SCHEMA:
            raise WeightsError(f"{path} has schema {about['schema']!r:.80}, expected {SCHEMA}: export it again")
        return validate(_About, {name: value for name, value in about.items() if name in _About.model_fields}, "")
    except (ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise WeightsError(
            f"{path}: the entry '{ENTRY}' of its metadata is damaged ({error!s:.500}); export it again"
        ) from error


def _check_form(session: Any, n_labels: int, path: Path) -> None:
    """See that input and output are those of the metadata."""
    inputs, outputs = _ends(session)
    if inputs != [("images", [3], _FLOATS)] or outputs != [("logits", [n_labels], _FLOATS)]:
        raise WeightsError(
            f"{path} does not fit its metadata: expected an input 'images' of 3 channels and an output 'logits' of "
            f"{n_labels} labels, found {inputs} and {outputs} (both should be {_FLOATS}). Export it again"
        )
