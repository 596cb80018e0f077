"""Finds the network in a run folder, a file of weights or ONNX, a saved folder, or under a name on the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tag2mask.backbones.files import WEIGHTS
from tag2mask.config.recipe import Recipe, load_recipe
from tag2mask.core.errors import ConfigError, DamagedError, StageError, WeightsError, unknown
from tag2mask.core.files import expanded, file_hash, read_json, reason, special_kind
from tag2mask.core.links import artefact_of, not_finished, resuming
from tag2mask.core.manifest import MANIFEST, unsealed
from tag2mask.core.names import base_name, of_seed
from tag2mask.methods.artefact import CHOICE, Choice
from tag2mask.methods.registry import stage_kinds
from tag2mask.methods.stage_kinds import ChoiceStage
from tag2mask.segmentation.networks.base import Segmenter
from tag2mask.segmentation.networks.factory import load_segmenter
from tag2mask.segmentation.predict.logits import LoadedNetwork
from tag2mask.segmentation.publish.hub import CONFIG, MODEL, fetch
from tag2mask.segmentation.publish.provenance import Provenance, provenance_of, read_provenance

KIND = "segmenter"
"""Kind of the stages that train these networks."""
_RECIPE, _ONNX = "recipe.yaml", ".onnx"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Found:
    """A network on the CPU, the SHA-256 of its file, and where it comes from, as far as known."""

    network: LoadedNetwork
    hash: str
    origin: Provenance = field(default_factory=Provenance)

    @property
    def segmenter(self) -> Segmenter | None:
        """The network as a module; None for ONNX."""
        return self.network.net if isinstance(self.network.net, Segmenter) else None


def find_network(source: str | Path, stage: str | None = None) -> Found:
    """Load the network that ``source`` names; arguments and errors are those of `tag2mask.load`."""
    path = expanded(source)
    try:
        return _find(path, source, stage)
    except OSError as error:  # of a name that is too long, or where one may not look
        raise WeightsError(f"{source} cannot be read: {reason(error)}. Allow it, or name another network") from error


def _find(path: Path, source: str | Path, stage: str | None) -> Found:
    if (path / _RECIPE).is_file():
        return _of_run(path, stage)
    if stage is not None:
        raise ConfigError(f"stage = '{stage}' belongs to a run folder, but {source} is not one (it has no {_RECIPE})")
    if (path / CONFIG).is_file():
        return _saved(path)
    if path.is_dir():
        raise WeightsError(
            f"{source} is neither a run (no {_RECIPE}) nor a saved network (no {CONFIG}). Name a run folder, a "
            "folder that save_pretrained wrote, or a file of weights"
        )
    if path.is_file():
        return _onnx(path) if path.suffix.lower() == _ONNX else _of_file(path)
    if path.exists() or path.is_symlink():
        kind = special_kind(path) if path.exists() else "a link to nothing"
        raise WeightsError(f"{source} is {kind}: expected a run folder, or a file .safetensors or .onnx")
    if _HUB_NAME.fullmatch(str(source)) and path.suffix.lower() not in {".safetensors", _ONNX}:
        return _saved(fetch(str(source)))
    raise WeightsError(
        f"{source} does not exist: expected a run folder, a file .safetensors or .onnx, a folder that save_pretrained "
        "wrote, or a name on the hub such as owner/name"
    )


def _of_run(run: Path, stage: str | None) -> Found:
    recipe = load_recipe(str(run / _RECIPE))
    networks = _networks(recipe)
    name = _choose(run, recipe, networks, stage)
    choices, ledger = [], None
    while networks[base_name(name)] != {base_name(name)}:
        choices.append(base_name(name))
        folder, manifest = _finished(run, name, CHOICE)
        ledger = ledger or manifest.get("ledger")  # of the outermost choice: it has seen what all of them have
        role = Choice.read(folder, resuming(run)).role
        source = str(recipe.stages[base_name(name)]["reads"][role])
        name = source + name.removeprefix(base_name(name)) if recipe.stages[source].get("seed") is None else source
    folder, manifest = _finished(run, name, WEIGHTS)
    found = _weights(folder / WEIGHTS)
    assert found.segmenter is not None
    made_from = {**manifest, "ledger": ledger or manifest.get("ledger")}
    origin = provenance_of(run, recipe, name, found.segmenter.initial, made_from, choices)
    return replace(found, origin=origin)


def _finished(run: Path, name: str, file: str) -> tuple[Path, dict[str, Any]]:
    """Folder and manifest of a finished stage, whose file is what was made."""
    folder = artefact_of(run, name)
    if not (folder / MANIFEST).is_file() or not (folder / file).is_file():
        raise not_finished(run, name)
    try:
        manifest = unsealed(read_json(folder / MANIFEST), folder / MANIFEST)
    except DamagedError as error:
        raise StageError(f"{error}. Rerun stage '{name}': {resuming(run)}") from error
    if _changed(folder / file, manifest):
        raise StageError(
            f"{folder / file} is not what stage '{name}' has trained: it does not fit the {MANIFEST} beside it. "
            f"Retrain it: {resuming(run)}"
        )
    return folder, manifest


def _networks(recipe: Recipe) -> dict[str, set[str]]:
    """Stage -> itself where it trains a segmentation network; where it chooses among such, those too."""
    found = {name: {name} for name, spec in recipe.stages.items() if spec.get("kind") == KIND}
    for name, spec in recipe.stages.items():
        kind = stage_kinds().get(str(spec.get("kind")))
        if isinstance(kind, ChoiceStage):
            reads = spec.get("reads") or {}
            sources = [reads[role] for role in kind.candidates(reads)]
            if all(source in found for source in sources):
                found[name] = {name}.union(*(found[source] for source in sources))
    return found


def _changed(weights: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the manifest of a stage knows a file of weights, and as another one."""
    files = manifest.get("files")
    made = files.get(weights.name) if isinstance(files, dict) else None
    return made is not None and made != file_hash(weights)


def _of_file(path: Path) -> Found:
    """A file of weights; one that lies in a run still has to be what was trained there."""
    try:
        beside = path.with_name(MANIFEST)
        manifest = unsealed(read_json(beside), beside) if beside.is_file() else {}
    except StageError:  # nothing is known of the file then, as of one that lies anywhere else
        manifest = {}
    if _changed(path, manifest):
        raise StageError(
            f"{path} is not what its stage has trained: it does not fit the {MANIFEST} beside it. Retrain it with "
            "the command of its run, which the run's report names"
        )
    return _weights(path)


def _choose(run: Path, recipe: Recipe, networks: Mapping[str, set[str]], stage: str | None) -> str:
    """The named stage; else the only one that is not a candidate of a choice."""
    final = [name for name in networks if not any(name in networks[other] - {other} for other in networks)]
    seeds = recipe.seeds if len(recipe.seeds) > 1 else ()
    every, names = ([of_seed(n, s) for n in found for s in seeds] if seeds else [*found] for found in (networks, final))
    if not names:
        raise StageError(
            f"the recipe of {run} has no stage of kind '{KIND}', so the run holds no network that segments photos; "
            "use a recipe that has one: tag2mask ls recipes"
        )
    if stage is not None:
        if stage not in every:
            raise ConfigError(unknown(f"stage of kind '{KIND}'", stage, every))
        return stage
    if len(names) > 1:
        raise ConfigError(f"{run} holds {len(names)} networks: {', '.join(names)}. Choose one with --stage")
    return names[0]


def _weights(path: Path) -> Found:
    if path.suffix.lower() != ".safetensors":
        packed = " A packed run is unpacked first" if path.suffix.lower() == ".zip" else ""
        raise WeightsError(
            f"{path}: expected a run folder, or a file of weights that ends in .safetensors or .onnx.{packed}"
        )
    net, classes = load_segmenter(path)
    return Found(LoadedNetwork.of(net, classes), file_hash(path))


def _saved(folder: Path) -> Found:
    config: Any = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("library") != "tag2mask":
        raise WeightsError(
            f"{folder / CONFIG} was not written by tag2mask: expected a network that save_pretrained wrote"
        )
    if not (folder / MODEL).is_file():
        raise WeightsError(f"{folder} has a {CONFIG}, but no {MODEL}: copy or save the network again")
    origin = read_provenance(config.get("origin") or {}, folder / CONFIG)
    found = replace(_weights(folder / MODEL), origin=origin)
    if list(found.network.classes) != config.get("classes"):
        raise WeightsError(
            f"{folder / CONFIG} names the classes {config.get('classes')}, but {MODEL} has "
            f"{list(found.network.classes)}: the two files are of different networks; save it again"
        )
    return found


def _onnx(path: Path) -> Found:
    from tag2mask.segmentation.onnx.runtime import OnnxSegmenter

    net = OnnxSegmenter(path)
    return Found(LoadedNetwork.of(net, net.classes), file_hash(path))
