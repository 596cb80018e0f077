"""LPCAM in the pipeline: prototypes are clustered from the classifier's features, and maps made with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from tag2mask.backbones.files import WEIGHTS, load_network, trained_side
from tag2mask.backbones.folded import for_inference
from tag2mask.backbones.tagnet import TagNet
from tag2mask.core.errors import ConfigError, DataError, unknown
from tag2mask.core.files import write_json
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import LOG, Counter, progress
from tag2mask.core.types import Prototypes, Sample
from tag2mask.data.base import Dataset
from tag2mask.inference.multiscale import pair_features
from tag2mask.inference.raw_scores import RawScores, similarity_unit
from tag2mask.inference.runner import image_tensor
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.context import MapsProgram, StageContext
from tag2mask.methods.lpcam.collect import collect
from tag2mask.methods.lpcam.kinds import LpcamSettings, PrototypeSettings, by_levels, parse_drop
from tag2mask.methods.lpcam.maps import LPCAMHead
from tag2mask.methods.lpcam.prototypes import ClassPrototypes, Clustering, Rules, Scorer, build_class, drop_by_hand
from tag2mask.methods.lpcam.prototypes_file import load_prototypes, save_prototypes
from tag2mask.methods.lpcam.sets import Sets
from tag2mask.training.device import resolve_device

PROTOTYPES, GALLERY = "prototypes.safetensors", "gallery.json"


def cluster(context: StageContext[PrototypeSettings]) -> None:
    """Cluster and select the prototypes of every class (section 3.1); writes them and the gallery's patches.

    Class by class, so that only one class's vectors are on disk at a time.

    Raises:
        DataError: no image carries any tag.
        WeightsError: the features are not finite.
    """
    if context.rank != 0:
        return
    settings = context.settings
    dataset = context.dataset
    network, _ = load_network(context.reads["classifier"].path / WEIGHTS)
    device = resolve_device(context.engine)
    network = for_inference(network, device)
    weights, bias = (values.detach().float().cpu() for values in (network.class_weights(), network.class_bias()))
    alone = settings.probability == "sigmoid"
    scorer = Scorer(weights, torch.tensor(network.trained), names=dataset.classes, bias=bias, alone=alone)
    sets = Sets.of(context)
    chosen = {c: sets.images(dataset, c, settings.images_per_class) for c in range(len(dataset.classes))}
    if not any(chosen.values()):
        raise DataError(f"no image of split '{dataset.split}' carries a tag, so there is nothing to cluster")
    built: dict[int, ClassPrototypes] = {}
    with progress(context.name, sum(map(len, chosen.values()))) as counter:
        for column, samples in chosen.items():
            if samples:
                built[column] = _one_class(context, sets, network, column, samples, scorer, counter)
    found = Prototypes({c: b.foreground for c, b in built.items()}, {c: b.context for c, b in built.items()})
    save_prototypes(context.out / PROTOTYPES, found)
    write_json(context.out / GALLERY, _gallery(dataset, chosen, built, network.stride, _base(context)))


def _one_class(
    context: StageContext[PrototypeSettings],
    sets: Sets,
    network: TagNet,
    column: int,
    samples: Sequence[Sample],
    scorer: Scorer,
    counter: Counter,
) -> ClassPrototypes:
    settings = context.settings
    name = context.dataset.classes[column]
    pairs = _features_and_cams(context, sets, network, samples, column, counter)
    how = Clustering(settings.n_prototypes, context.seed, settings.max_iterations, settings.memory_mb)
    # Where no background competes the context is what other classes are, however clearly the class rejects it.
    rules = Rules(settings.mu_f, settings.mu_b, settings.mu_b_low if sets.competes else 0.0)
    with collect(
        pairs,
        sets.tau,
        context.out,
        name=f"class '{name}'",
        images=len(samples),
        max_vectors=settings.max_vectors,
        seed=context.seed,
        certain=sets.certain and any(column not in s.tags for s in samples),
    ) as (foreground, outside):
        found = build_class(foreground, outside, column, scorer, rules, how)
    kept = [f"{int(s.kept.sum())} of {len(s.kept)}" for s in (found.foreground, found.context)]
    LOG.info("%s: '%s' keeps %s foreground and %s context prototypes", context.name, name, *kept)
    return found


def _base(context: StageContext[PrototypeSettings]) -> Callable[[tuple[int, int]], tuple[int, int]]:
    """From the (height, width) of an image to that at scale 1 of the maps that are read."""
    maps, side = context.reads["maps"].settings, trained_side(context.reads["classifier"].path)
    return partial(maps.base, side=side) if isinstance(maps, MapsSettings) else lambda size: size


def _features_and_cams(
    context: StageContext[PrototypeSettings],
    sets: Sets,
    network: TagNet,
    samples: Sequence[Sample],
    column: int,
    counter: Counter,
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    """Features (D, h, w) of the image at scale 1, un-mirrored, and what parts them, see `Sets.share`.

    With the logits of these cells where the features are the network's levels.
    """
    device, dataset, maps = next(network.parameters()).device, context.dataset, context.reads["maps"]
    levels, size = by_levels(context.settings), len(dataset.classes)

    def stacked(images: Tensor) -> Tensor:
        return torch.cat(network.levels(images), 1)

    run = stacked if levels else network.features
    base = _base(context)

    def read(sample: Sample) -> tuple[Tensor, Tensor | None]:
        image = dataset.image(sample)
        tensor = image_tensor(image, base((image.height, image.width)), network.mean, network.std)
        return tensor, sets.share(maps, dataset, sample, column)

    for tensor, cam in prefetch(read, samples):
        features = next(pair_features(run, [tensor.to(device)], mirror=False))[0].cpu()
        yield (features[:-size], cam, features[-size:]) if levels else (features, cam, None)
        counter.advance()


def _gallery(
    dataset: Dataset,
    chosen: Mapping[int, Sequence[Sample]],
    built: Mapping[int, ClassPrototypes],
    stride: int,
    base: Callable[[tuple[int, int]], tuple[int, int]],
) -> list[dict[str, object]]:
    """For each centre of each class the image positions most like it, as shares ``u``, ``v`` of width and height."""
    entries: list[dict[str, object]] = []
    size = cache(
        lambda sample: base(dataset.image(sample).size[::-1])[::-1]
    )  # an image has many places; it is opened once
    for column, found in built.items():
        for side, patches in (("foreground", found.foreground_patches), ("context", found.context_patches)):
            for number, origins in enumerate(patches.origins.tolist()):
                places = [
                    {"id": chosen[column][image].id, **_place(size(chosen[column][image]), stride, y, x)}
                    for image, y, x in origins
                ]
                entries.append({"class": dataset.classes[column], "name": f"{side}:{number}", "patches": places})
    return entries


def _place(size: tuple[int, int], stride: int, y: int, x: int) -> dict[str, float]:
    """Middle of a feature cell, as shares of the image's (width, height)."""
    width, height = size
    u, v = (x + 0.5) * stride / width, (y + 0.5) * stride / height
    return {"u": round(min(u, 1.0), 4), "v": round(min(v, 1.0), 4)}


def program(context: StageContext[LpcamSettings]) -> MapsProgram:
    """Eqs. 5 and 6 with the kept prototypes, those dropped by hand left out.

    Raises:
        ConfigError: ``drop`` names a class or prototype that there is not.
    """
    folder = context.reads["classifier"].path
    network, classes = load_network(folder / WEIGHTS)
    prototypes = load_prototypes(context.reads["prototypes"].path / PROTOTYPES)
    _check_drops(context.settings.drop, classes, f"{context.name}.drop")
    for text in context.settings.drop:
        name, side, number = parse_drop(text)
        prototypes = drop_by_hand(prototypes, list(classes).index(name), side, number, name)
    head = LPCAMHead(prototypes, len(classes), context.settings.foreground_only)
    raw = RawScores(head.scores, similarity_unit, len(classes)) if context.settings.raw else None
    levels = by_levels(context.reads["prototypes"].settings)
    return MapsProgram(network, head, raw, trained_side(folder), levels)


def check_data(settings: LpcamSettings, dataset: Dataset) -> Sequence[str]:
    """See that the prototypes dropped by hand are of classes that there are.

    Raises:
        ConfigError: ``drop`` names another class.
    """
    _check_drops(settings.drop, dataset.classes, "drop")
    return ()


def _check_drops(drops: Sequence[str], classes: Sequence[str], setting: str) -> None:
    for text in drops:
        name, _, _ = parse_drop(text)
        if name not in classes:
            raise ConfigError(f"{setting}: " + unknown("class", name, classes))
