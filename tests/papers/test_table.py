"""The table: sources and kinds of threshold in columns of their own, spread of seeds, what is above what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tag2mask.config.recipe import load_recipe
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.registry import load_dataset
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.inference.settings import MapsSettings
from tag2mask.papers.catalogue import ExpectedOrder, Experiment, FinishedExperiment, Published, TableRow
from tag2mask.papers.steps.classifier_bias import ConfusedLine, ImageConfusion, ObjectRecall, confused_lines, confusions
from tag2mask.papers.steps.measurements import ClassDelta, class_deltas, read_curve
from tag2mask.papers.steps.threshold_examples import pick
from tag2mask.papers.steps.toy_figures import gap, toy
from tag2mask.papers.table import build_table, legend, number, order_lines
from tests.backbones.make import network
from tests.helpers.draw import draw_folder


def row(method: str, value: float | None, kind: str = "oracle", seed: int = 0, **more: object) -> ResultRow:
    values = {"split": "train", "n_images": 8, "threshold": 0.5, "metric": "miou", **more}
    if kind == "none":
        values["threshold"] = None
    return ResultRow(method=method, threshold_kind=kind, value=value, seed=seed, command="c", **values)  # type: ignore[arg-type]


CAM = TableRow("CAM", published=(Published("miou", 48.8, "VOC train", "LPCAM, Table 1"),))
LPCAM = TableRow("LPCAM", published=(Published("miou", 54.9, "VOC train", "LPCAM, Table 1", "twice"),))


def made(*rows: TableRow, metrics: tuple[str, ...] = ("miou",), orders: tuple[ExpectedOrder, ...] = ()) -> Experiment:
    return Experiment("X", "LPCAM", "Table 1", "t", "q?", rows, metrics, orders)


def test_each_column_has_one_source_and_one_kind_of_threshold() -> None:
    ours = [row("CAM", 50.0), row("CAM", 40.0, "fixed", threshold=0.3), row("LPCAM", 60.04, "few-masks(3)")]
    found = build_table(made(CAM, LPCAM), ours)
    assert found.header == (
        "row", "published: VOC train", "ours: oracle threshold", "ours: few-masks(3) threshold",
        "ours: fixed threshold",
    )  # fmt: skip
    assert found.lines == (
        ("CAM", "48.8", "50.0 at 0.50", "", "40.0 at 0.30"),
        ("LPCAM", "54.9 (twice)", "", "60.0 at 0.50", ""),
    )
    assert found.markdown().splitlines()[1:3] == [
        "| --- | --- | --- | --- | --- |",
        "| CAM | 48.8 | 50.0 at 0.50 |  | 40.0 at 0.30 |",
    ]


def test_seeds_are_a_mean_and_a_sample_deviation() -> None:
    ours = [row("CAM", v, seed=i, threshold=t) for i, (v, t) in enumerate([(50.0, 0.5), (52.0, 0.4), (54.0, 0.45)])]
    assert build_table(made(CAM), ours).lines[0][-1] == "52.0 ± 2.0 (3 seeds) at 0.40 to 0.50"
    again = build_table(made(CAM), [row("CAM", 50.0), row("CAM", None, seed=1)])
    assert again.lines[0][-1] == "50.0 at 0.50"


def test_several_metrics_and_splits_are_distinguished() -> None:
    ours = [
        row("CAM", 1.5, "none", metric="fp"), row("CAM", 7.25, "none", metric="iou/cat"),
        row("LPCAM", 2.5, "none", metric="fp", split="val", n_images=1),
    ]  # fmt: skip
    found = build_table(made(CAM, LPCAM, metrics=("fp", "miou", "iou/")), ours)
    assert found.header == ("row", "metric", "published: VOC train", "ours: no threshold", "ours on")
    assert found.lines == (
        ("CAM", "fp", "", "1.5", "train, 8 images"),
        ("CAM", "miou", "48.8", "", ""),
        ("CAM", "iou/cat", "", "7.2", "train, 8 images"),
        ("LPCAM", "fp", "", "2.5", "val, 1 image"),
        ("LPCAM", "miou", "54.9 (twice)", "", ""),
    )


def test_rows_without_a_side_of_ours_say_why_and_empty_ones_are_left_out() -> None:
    waiting = TableRow("EDAM", published=(Published("miou", 52.8, "VOC train", "p"),), needs="EDAM")
    told = TableRow("DRS", note="a curve without numbers")
    found = build_table(made(CAM, waiting, told, TableRow("nothing")), [row("CAM", 50.0), row("CAM", 45.0, "fixed")])
    assert [line[0] for line in found.lines] == ["CAM", "EDAM", "DRS"]
    assert found.lines[1][2:] == ("not yet (EDAM)", "")
    assert found.lines[2][2:] == ("none (see note)", "")


def test_networks_stand_behind_the_name_of_their_row() -> None:
    ours = [row("AMN (fpn on a, first weights imagenet)", 60.0, "none")]
    assert build_table(made(TableRow("AMN"), TableRow("AM")), ours).lines == (("AMN", "60.0"),)


def test_orders_are_answered_for_each_source_and_kind() -> None:
    chosen = made(CAM, LPCAM, orders=(ExpectedOrder("LPCAM", "CAM"), ExpectedOrder("CAM", "LPCAM", "fp")))
    ours = [row("CAM", 50.0), row("CAM", 52.0, seed=1), row("LPCAM", 50.5), row("LPCAM", 44.0, "fixed")]
    assert order_lines(chosen, ours) == [
        "LPCAM above CAM in miou: published VOC train yes (54.9 against 48.8); ours, oracle threshold no (50.5 against "
        "51.0)"
    ]
    close = [row("CAM", 50.01), row("LPCAM", 50.04)]
    assert order_lines(chosen, close)[0].endswith("ours, oracle threshold yes (50.04 against 50.01)")


@pytest.mark.parametrize(
    ("value", "text"), [(54.9449, "54.9"), (0.894, "0.894"), (0, "0"), (-0.24, "-0.24"), (1, "1.0")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_the_legend_tells_data_network_and_seeds(tmp_path: Path) -> None:
    chosen = made(CAM)
    run = FinishedExperiment(chosen, {"CAM": "cam"}, load_recipe("demo"), (), tmp_path, "c")
    text = legend(run, [row("CAM", 50.0), row("CAM", 51.0, seed=1), row("CAM", 1.0, metric="fp", split="val")])
    assert text.startswith(
        "Numbers are mIoU in percent. Published: LPCAM, Table 1 (PASCAL VOC 2012, ResNet-50 classifier). Ours: data"
    )
    assert "8 images), efficientnet_lite0 classifier (first weights: bundled), seeds 0, 1." in text
    assert "Data and network differ" in text
    several = legend(
        replace(run, experiment=made(CAM, metrics=("miou", "fp"))), [row("CAM", 5.0), row("CAM", 5.0, n_images=1)]
    )
    assert several.startswith("Published: ")
    assert "data parts (train, 1 to 8 images)," in several


def test_the_toy_gives_the_numbers_of_the_papers_text() -> None:
    assert gap().tolist() == [12, 5, 4]
    found = toy()
    assert found["cam"].tolist()[:2] == [130, 35]
    assert found["cam_normalised"].round(2).tolist()[:2] == [1.0, 0.27]
    assert found["similarity"].round(1).tolist()[:2] == [1.0, 0.9]
    assert found["lpcam_normalised"].round(2).tolist()[:2] == [1.0, 0.83]
    assert found["lpcam"][2] < 0 == found["lpcam_normalised"][2]
    assert found["cam_normalised"][2] > 0.1, "the sky stays in CAM"


def test_deltas_are_second_less_first_the_largest_gain_first() -> None:
    ours = [
        row("a", 10.0, metric="iou/cat"), row("a", 14.0, metric="iou/cat", seed=1), row("b", 30.0, metric="iou/cat"),
        row("a", 50.0, metric="iou/dog"), row("b", 45.5, metric="iou/dog"), row("a", 5.0, metric="iou/cow"),
        row("a", 9.0, metric="miou"), row("b", 9.0, metric="miou"),
    ]  # fmt: skip
    assert class_deltas(ours, "a", "b") == [
        ClassDelta("cat", "oracle", 12.0, 30.0, 18.0), ClassDelta("dog", "oracle", 50.0, 45.5, -4.5),
    ]  # fmt: skip


def test_object_recall_counts_pixels_of_objects_alone() -> None:
    import numpy as np
    import torch

    own = torch.tensor([[1.0, 1.0, 0.2, 0.2]]).repeat(4, 1)
    confusing = torch.tensor([[0.0, 0.9, 0.9, 0.9]]).repeat(4, 1)
    found = ImageConfusion(Sample("x", (1,)), 0, np.array([0.4, 0.9], np.float32), torch.stack([own, confusing]))
    truth = np.zeros((4, 4), np.uint8)
    truth[:2, :3] = 2  # of class column 1: six pixels
    truth[3] = 255
    recall = ObjectRecall()
    recall.count(found, truth, 0.3)
    recall.count(found, truth, 0.3)
    assert (recall.pixels, recall.own, recall.confusing, recall.either) == (12, 8, 8, 12)
    other = ImageConfusion(Sample("y", (1,)), 2, found.scores, found.maps)
    assert confused_lines([found, found, other], ("cat", "dog", "cow")) == [
        ConfusedLine("dog", "cat", 2, 0.6667), ConfusedLine("dog", "cow", 1, 0.3333),
    ]  # fmt: skip


def test_confusing_classes_are_mapped_at_the_sizes_of_the_training() -> None:
    """On images of 64 pixels, 1 and 1.5 times a training's 96 are 1.5 and 2.25 times the image."""
    net, dataset = network(stride=8), load_dataset("parts", split="train", images=3, size=64)
    samples = [s for s in dataset.samples if dataset.image(s).size == (64, 64)]
    found = []
    for scales, relative_to in (((1.0, 1.5), "training"), ((1.5, 2.25), "image"), ((1.0, 1.5), "image")):
        settings = MapsSettings(scales=scales, relative_to=relative_to)  # type: ignore[arg-type]
        found.append(confusions(net, dataset, samples, settings, torch.device("cpu"), lambda: None, 96))
    trained, enlarged, own = ([one.maps for one in each] for each in found)
    assert len(trained) == len(samples) > 0
    for one, same, other in zip(trained, enlarged, own, strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_images_are_picked_by_rule_and_on_request(tmp_path: Path) -> None:
    draw_folder(tmp_path)
    dataset: Dataset = folder(tmp_path)
    scores = {s.id: float(i) for i, s in enumerate(dataset.samples)}
    ids = [s.id for s in dataset.samples]
    scores[ids[0]] = float("nan")
    found = pick(dataset, scores, [ids[0]])
    assert [(s.id, why) for s, why in found] == [
        (ids[0], "chosen"), (ids[11], "best of 11"), (ids[10], "best of 11"), (ids[7], "median of 11"),
        (ids[6], "median of 11"), (ids[1], "worst of 11"), (ids[2], "worst of 11"),
    ]  # fmt: skip


def folder(root: Path) -> Dataset:
    from tag2mask.data.registry import load_dataset

    return load_dataset("folder", root, "all", tags="tags.csv", images="images")


def test_a_curve_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("threshold,miou,fp,fn,precision,recall\n0.0000,10.5,1,2,nan,4\n0.0100,11.5,1,2,3,4\n")
    points = read_curve(path)
    assert [(p.threshold, p.miou) for p in points] == [(0.0, 10.5), (0.01, 11.5)]
    assert points[0].precision != points[0].precision
