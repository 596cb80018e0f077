"""CAM in the pipeline: the classifier is trained, and its maps are made."""

from __future__ import annotations

import torch

from tag2mask.backbones.network import load_network
from tag2mask.methods.cam.classifier import WEIGHTS, train_classifier
from tag2mask.methods.cam.maps import CAMHead
from tag2mask.methods.context import MapsProgram, StageContext


def train(context: StageContext) -> None:
    """Train the classifier on the tags of the training split; writes its weights.

    Raises:
        TrainingError: the loss is no number.
        WeightsError: the initial weights do not fit the backbone.
    """
    train_classifier(
        context.split("@train"),
        context.settings,
        out=context.out,
        seed=context.seed,
        engine=context.engine,
        name=context.name,
    )


def program(context: StageContext) -> MapsProgram:
    """Eq. 1 on the classifier's features."""
    network, _ = load_network(context.reads["classifier"].path / WEIGHTS)
    with torch.no_grad():
        return MapsProgram(network, CAMHead(network.class_weights()))
