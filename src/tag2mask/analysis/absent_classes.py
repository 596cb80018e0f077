"""AMN under right and wrong tags on a finished run (AMN, Figure 4): numbers, a line an image, pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tag2mask.analysis.base import Analysis, Findings, Run
from tag2mask.backbones.files import WEIGHTS
from tag2mask.backbones.folded import for_inference
from tag2mask.config.engine import Engine
from tag2mask.core.errors import ConfigError
from tag2mask.core.progress import progress
from tag2mask.core.resize import bilinear
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import scaled
from tag2mask.evaluation.absent_classes import COLUMNS, MEASURES, AbsentAnalysis, analyse_absent
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.amn.kinds import AMN_MAPS
from tag2mask.methods.amn.maps import image_logits
from tag2mask.methods.amn.network import load_amn
from tag2mask.methods.amn.settings import AmnMapsSettings
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.opened_run import OpenedMaps, OpenedRun, as_run
from tag2mask.report.examples import Example, draw_examples
from tag2mask.report.pictures import heat_overlay
from tag2mask.training.device import resolve_device

KIND = AMN_MAPS.name
_SHOWN = 4

Predictor = Callable[[Sample, Sequence[int]], NDArray[np.float32]]
_Found = list[tuple[OpenedMaps, Predictor, AbsentAnalysis]]


def analyse_tags(
    run: Run, *, stages: Sequence[str] = (), images: int = 100, split: str | None = None, out: Path | None = None
) -> Analysis:
    """Measure how active absent classes are, with the right tags and with a wrong one; needs no ground truth.

    Arguments and errors as for `tag2mask.analysis.map_thresholds.analyse_thresholds`; the stages are of kind
    ``amn-maps``, and ``images`` are that many, evenly spaced over the split, of which some have some classes and lack
    others. The pictures are of those whose wrong class is most active in the first of the stages.
    """
    run = as_run(run)
    opened = [run.maps(name, split) for name in _named(run, stages)]
    options = ["--images", str(images)] if images != 100 else []
    findings, dataset = Findings("absent-classes", opened, out, split, options), opened[0].dataset
    spaced = np.linspace(0, len(dataset) - 1, min(images, len(dataset))).round().astype(int)
    samples = [dataset.samples[i] for i in spaced]
    found: _Found = []
    for maps in opened:
        predict = conditioned_predictor(maps.artefact, dataset, run.plan.recipe.engine)
        with progress(maps.name, len(samples)) as counter:
            one = analyse_absent(dataset, predict, samples, counter.advance)
        lines = one.lines(dataset.classes, stage=maps.name, seed=maps.stage.seed)
        findings.add(maps, one.results(findings.origin(maps)), lines)
        found.append((maps, predict, one))
    return findings.write(lambda path: _draw(found, path), metrics=MEASURES, columns=COLUMNS, figure=".png")


def _named(run: OpenedRun, stages: Sequence[str]) -> list[str]:
    """The stages of AMN's maps to look at; names that are not of any maps are left to `OpenedRun.maps` to refuse."""
    ours = [name for name, stage in run.stages.items() if stage.kind is AMN_MAPS]
    for name in stages:
        stage = run.stages.get(name)
        if stage is not None and stage.kind.makes is Makes.MAPS and name not in ours:
            raise ConfigError(
                f"stage '{name}' is of kind {stage.kind.name}, which is conditioned on no tags; expected one of kind "
                f"{KIND}" + (f": {', '.join(ours)}" if ours else "")
            )
    if not (stages or ours):
        raise ConfigError(
            f"the recipe of {run.path} has no stage of kind {KIND}; use one that has: tag2mask run own-data-amn"
        )
    return list(stages) or ours


def conditioned_predictor(maps: Artefact, dataset: Dataset, engine: Engine) -> Predictor:
    """Runs the network behind a stage of kind ``amn-maps``, at its scales, on an image under arbitrary tags.

    Args:
        maps: the finished stage.
        dataset: the split that the images are of.
        engine: device.

    Returns:
        A function of a sample and class columns that gives the softmax (C + 1, h, w) at stride 4, background first, of
        the image that is tagged with these classes. It raises what reading an image raises.
    """
    settings: AmnMapsSettings = maps.settings
    net, classes = load_amn(maps.reads["amn"].path / WEIGHTS)
    device = resolve_device(engine)
    net = for_inference(net, device)

    @torch.inference_mode()
    def probabilities(sample: Sample, columns: Sequence[int]) -> NDArray[np.float32]:
        image = dataset.image(sample)
        full = image.height, image.width
        tags = torch.zeros(len(classes), device=device)
        tags[list(columns)] = 1
        images = (image_tensor(image, scaled(*full, s), net.mean, net.std).to(device) for s in settings.scales)
        bfloat16 = settings.precision == "bfloat16"
        logits = image_logits(net, images, tags, stride4(*full), mirror=settings.mirror, bfloat16=bfloat16)
        return logits.softmax(0).cpu().numpy()

    return probabilities


def _draw(found: _Found, path: Path) -> None:
    first, _, analysis = found[0]
    dataset = first.dataset
    samples = {sample.id: sample for sample in dataset.samples}
    chosen = sorted(analysis.images, key=lambda i: (-i.absent_highest, i.id))[:_SHOWN]
    examples = []
    for image in chosen:
        sample = samples[image.id]
        photo, right = dataset.image(sample), list(sample.tags)
        names, wrong = ", ".join(dataset.classes[c] for c in right), dataset.classes[image.wrong]
        pictures = [(names, photo)]
        for maps, predict, _ in found:
            for tags, tagged in ((right, names), ([image.wrong], wrong)):
                softmax = torch.from_numpy(predict(sample, tags))
                shown = bilinear(softmax, photo.height, photo.width).numpy()[1:]
                pictures += [
                    (f"{maps.name} tagged {tagged}:\n{of}", heat_overlay(photo, shown[columns].max(axis=0)))
                    for columns, of in ((right, names), ([image.wrong], wrong))
                ]
        reason = f"{wrong} is absent, mean activation {image.absent_highest:.2f} in {first.name}"
        examples.append(Example.of(image.id, reason, pictures))
    title = f"Softmax of present and absent classes under right and wrong tags, {dataset.split}"
    draw_examples(examples, title, path)
