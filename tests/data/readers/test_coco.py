"""The reader ``coco``: categories, tags, and the ground truth it draws against a decoder written for the test."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.doctor.checks import examine
from tag2mask.data.doctor.first_look import header_at
from tag2mask.data.registry import data_settings, load_dataset
from tests.helpers.draw import CLASSES, coco_annotation, draw_coco, run_lengths, save_image, write, write_coco
from tests.helpers.refused import refused

H, W = 20, 30
Mask = NDArray[np.bool_]


def box(top: int, left: int, bottom: int, right: int) -> Mask:
    mask = np.zeros((H, W), dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def one_image(root: Path, annotations: list[Any], **other: Any) -> Dataset:
    """A data set of one 20 x 30 image with these annotations."""
    save_image(root / "train2017/7.jpg", np.full((H, W, 3), 90, dtype=np.uint8))
    image = {"id": 7, "file_name": "7.jpg", "height": H, "width": W}
    write_coco(root / "annotations/instances_train2017.json", [image], annotations)
    return load_dataset("coco", root, "train2017", **other)


def truth_of(dataset: Dataset) -> Labels:
    truth = dataset.truth(dataset.samples[0])
    assert truth is not None
    return truth


def decode_runs(counts: list[int], height: int, width: int) -> Mask:
    """Uncompressed run lengths, run by run."""
    flat: list[bool] = []
    for index, count in enumerate(counts):
        flat += [index % 2 == 1] * count
    return np.array(flat).reshape(width, height).T


def decode_text(text: str) -> list[int]:
    """COCO's compressed run lengths: six bits a character, differences to the run before the last."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[position]) - 48
            value |= (bits & 31) << (5 * shift)
            more = bool(bits & 32)
            position, shift = position + 1, shift + 1
            if not more and bits & 16:
                value |= -1 << (5 * shift)
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def inside(polygon: list[float], y: float, x: float) -> bool:
    """Even-odd rule."""
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    crossings = [
        (x0 + (y - y0) / (y1 - y0) * (x1 - x0)) > x
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True)
        if (y0 > y) != (y1 > y)
    ]
    return sum(crossings) % 2 == 1


def test_polygons_match_a_point_in_polygon_test_away_from_the_edge(tmp_path: Path) -> None:
    polygons = [[2.3, 1.2, 14.8, 3.4, 9.1, 17.6], [20.0, 5.0, 28.5, 6.5, 26.0, 15.0, 19.5, 12.0]]
    annotation = {"id": 1, "image_id": 7, "category_id": 11, "iscrowd": 0, "segmentation": polygons}
    truth = truth_of(one_image(tmp_path, [annotation]))
    corners = [(a, b) for a in (0.0, 0.5, 1.0) for b in (0.0, 0.5, 1.0)]
    surely = np.zeros((H, W))
    for y in range(H):
        for x in range(W):
            surely[y, x] = np.mean([any(inside(p, y + a, x + b) for p in polygons) for a, b in corners])
    assert (truth[surely == 1] == 2).all()
    assert (truth[surely == 0] == 0).all()
    assert 60 < (surely == 1).sum() < (truth == 2).sum() < (surely > 0).sum()


def test_run_lengths_match_a_slow_decoder(tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    blob = np.random.default_rng(3).random((H, W)) < 0.3
    counts = run_lengths(blob)
    text = coco_mask.frPyObjects({"size": [H, W], "counts": counts}, H, W)["counts"].decode()
    assert decode_text(text) == counts
    for number, code in enumerate((counts, text)):
        annotation = coco_annotation(1, 7, 1, blob) | {"segmentation": {"size": [H, W], "counts": code}}
        truth = truth_of(one_image(tmp_path / str(number), [annotation]))
        assert np.array_equal(truth == 1, decode_runs(counts, H, W))
        assert np.array_equal(truth == 1, blob)


def test_a_later_annotation_lies_over_an_earlier_one(tmp_path: Path) -> None:
    small, large = box(5, 5, 9, 9), box(2, 2, 15, 20)
    annotations = [coco_annotation(1, 7, 1, small), coco_annotation(2, 7, 11, large)]
    assert set(np.unique(truth_of(one_image(tmp_path, annotations)))) == {0, 2}
    both = truth_of(one_image(tmp_path, annotations, overlap="smaller"))
    assert np.array_equal(both == 1, small)
    assert np.array_equal(both == 2, large & ~small)
    equal = [coco_annotation(1, 7, 1, box(0, 0, 4, 4)), coco_annotation(2, 7, 11, box(2, 2, 6, 6))]
    assert truth_of(one_image(tmp_path, equal, overlap="smaller"))[3, 3] == 2


def test_crowds_give_no_tag_and_are_left_out_or_ignored(tmp_path: Path) -> None:
    crowd, thing = box(0, 0, 10, 10), box(5, 5, 15, 15)
    annotations = [coco_annotation(1, 7, 11, thing), coco_annotation(2, 7, 21, crowd, crowd=1)]
    dataset = one_image(tmp_path, annotations)
    assert dataset.samples[0].tags == (1,)
    assert np.array_equal(truth_of(dataset), thing * np.uint8(2))
    void = truth_of(one_image(tmp_path, annotations, crowd="ignore"))
    assert np.array_equal(void, np.where(thing, 2, np.where(crowd, 255, 0)))


def test_an_image_without_annotations_is_a_negative_with_background_truth(tmp_path: Path) -> None:
    draw_coco(tmp_path, n=2, splits=("train",))
    path = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 1]
    write(path, json.dumps(content))
    dataset = load_dataset("coco", tmp_path)
    assert [s.tags for s in dataset.samples] == [(0,), ()]
    truth = dataset.truth(dataset.samples[1])
    assert truth is not None
    assert truth.shape == (64, 48)
    assert not truth.any()


def test_classes_follow_the_category_ids_and_none_is_dropped(tmp_path: Path) -> None:
    draw_coco(tmp_path, n=1, splits=("train",))
    path = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 90, "name": "Zähne  bürste"}, {"id": 1, "name": "disc"}, {"id": 5, "name": "apple"}]
    write(path, json.dumps(content))
    dataset = load_dataset("coco", tmp_path)
    assert dataset.classes == ("disc", "apple", "Zähne  bürste")
    assert dataset.samples[0].tags == (0,)


def test_outlines_may_be_absent_altogether_but_not_in_part(tmp_path: Path) -> None:
    bare = coco_annotation(1, 7, 1, box(1, 1, 5, 5)) | {"segmentation": []}
    dataset = one_image(tmp_path / "none", [bare])
    assert (dataset.samples[0].tags, dataset.has_truth, dataset.truth(dataset.samples[0])) == ((0,), False, None)
    mixed = one_image(tmp_path / "mixed", [bare, coco_annotation(2, 7, 11, box(1, 1, 5, 5))])
    with refused(DataError, "instances_train2017.json", "annotation 1", "no valid outline", "30 x 20"):
        truth_of(mixed)


@pytest.mark.parametrize(
    "outline",
    [
        [[1.0, 1.0, 5.0, 5.0, 7.0, 3.0, 2.0]],
        [["a", "b", "c", "d", "e", "f"]],
        {"size": [20, 31], "counts": [620]},
        {"size": [20, 30], "counts": [599]},
        {"size": [20, 30], "counts": [-1, 601]},
        {"size": [20, 30]},
        {"size": [20, 30], "counts": [600.0]},
        {"size": [20, 30], "counts": [True, 599]},
        {"size": [20, 30], "counts": [2**70, 0]},
        {"size": [20, 30], "counts": "aYZ"},
        {"size": [20, 30], "counts": "o" * 5000},
        {"size": [20, 30], "counts": "0\u00ff"},
        {"size": "20", "counts": [600]},
        "a", 7, True, {"a": 1}, [[]] * 2 + [None], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [[10**400] * 6], [[[1, 2], [3, 4]]],
        [[1.0, 1.0, 5.0, math.nan, 7.0, 3.0]],
        [[1.0, 1.0, math.inf, 5.0, 7.0, 3.0]],
        [[1.0, 1.0, 1e9, 5.0, 7.0, 3.0]],
        [[1.0, 1.0, 5.0, -1e8, 7.0, 3.0]],
        [[1.0, 1.0, 5.0, 5.0, 7.0, 3.0], [1e308, -1e308, 5.0, 5.0, 1e308, 3.0]],
        [[-9e5, 0.0, 9e5, 10.0] * 9],
    ],
)  # fmt: skip
def test_a_malformed_outline_names_its_annotation(tmp_path: Path, outline: Any) -> None:
    dataset = one_image(tmp_path, [coco_annotation(44, 7, 1, box(1, 1, 5, 5)) | {"segmentation": outline}])
    with refused(DataError, "annotation 44", "no valid outline", "30 x 20 pixels", "expected polygons"):
        truth_of(dataset)


@pytest.mark.parametrize(
    ("polygons", "why"),
    [
        ([[]], "a polygon of 0 points, without area"),
        ([[5.0, 5.0]], "a polygon of 1 points"),
        ([[1.0, 1.0, 5.0, 5.0]], "a polygon of 2 points"),
        ([[3.0, 3.0] * 4], "a polygon without area, whose 4 points lie on one line"),
        ([[1.0, 1.0, 5.0, 3.0, 9.0, 5.0, 3.0, 2.0]], "whose 4 points lie on one line"),
    ],
)
@pytest.mark.parametrize("overlap", ["later", "smaller"])
def test_a_polygon_without_area_is_left_out_with_a_warning_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, polygons: Any, why: str, overlap: str
) -> None:
    thing = [[5.0, 5.0, 12.0, 5.0, 12.0, 12.0, 5.0, 12.0]]
    flat = coco_annotation(44, 7, 1, box(1, 1, 5, 5)) | {"segmentation": polygons}
    both = coco_annotation(45, 7, 11, box(1, 1, 5, 5)) | {"segmentation": [*thing, *polygons]}
    dataset = one_image(tmp_path, [flat, both], overlap=overlap)
    assert dataset.samples[0].tags == (0, 1)
    for _ in range(2):
        assert np.array_equal(truth_of(dataset), box(5, 5, 12, 12) * np.uint8(2))
    texts = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [t.partition("annotation ")[2][:2] for t in texts] == ["44", "45"]
    assert all("instances_train2017.json" in t and why in t and "left out of the ground truth" in t for t in texts)


def test_a_bow_tie_and_what_leaves_the_image_have_an_area(tmp_path: Path) -> None:
    bow = [[2.0, 2.0, 12.0, 2.0, 2.0, 12.0, 12.0, 12.0]]  # the areas of its halves cancel out
    wide = [[-400.0, 15.0, 900.0, 15.0, 900.0, 18.0, -400.0, 18.0]]
    annotations = [coco_annotation(i, 7, 1, box(1, 1, 5, 5)) | {"segmentation": s} for i, s in enumerate((bow, wide))]
    truth = truth_of(one_image(tmp_path, annotations))
    assert truth[3, 5] == truth[10, 5] == 1
    assert truth[15:18].all()
    assert not truth[18:].any()


@pytest.mark.parametrize("size", [(60_000, 60_000), (20, 2**40), (0, 0), (-1, 30), (W, H)])
def test_the_size_is_that_of_the_photo_before_anything_is_drawn(tmp_path: Path, size: tuple[int, int]) -> None:
    save_image(tmp_path / "train2017/7.jpg", np.full((H, W, 3), 90, dtype=np.uint8))
    image = {"id": 7, "file_name": "7.jpg", "height": size[0], "width": size[1]}
    write_coco(tmp_path / "annotations/instances_train2017.json", [image], [coco_annotation(1, 7, 1, box(1, 1, 5, 5))])
    dataset = load_dataset("coco", tmp_path, "train2017")
    with refused(DataError, "mask of '7'", f"is {size[1]} x {size[0]} pixels", "is 30 x 20"):
        truth_of(dataset)
    (found,) = header_at(dataset, dataset.samples[0]).findings
    assert f"the mask of '7' is {size[1]} x {size[0]} pixels" in found.text, "a run looks before its first stage"
    report = examine("coco", data_settings("coco", {"root": tmp_path}), ["train2017"], quiet=True)
    assert (report.findings[0].kind, report.findings[0].ids) == ("mask", ("7",))


@pytest.mark.parametrize(
    ("value", "crowd"),
    [
        (0, False), (1, True), ("0", False), ("1", True), (0.0, False), (1.0, True), (True, True), (False, False),
        ("true", True), ("False", False), ("", False), (None, False), (" 0 ", False), ("1.0", True),
    ],
)  # fmt: skip
def test_iscrowd_is_understood_however_it_is_written(tmp_path: Path, value: Any, crowd: bool) -> None:
    annotation = coco_annotation(1, 7, 1, box(1, 1, 5, 5)) | {"iscrowd": value}
    dataset = one_image(tmp_path, [annotation, coco_annotation(2, 7, 11, box(8, 8, 9, 9))])
    assert dataset.samples[0].tags == ((1,) if crowd else (0, 1))


ODD: tuple[Any, ...] = (
    None,
    [],
    {},
    "x",
    "1" * 5000,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    -1,
    10**400,
    2.5,
    True,
    "\ud800",
    "a\nb",
)


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_whatever_a_value_of_the_file_is_the_error_names_the_file(tmp_path: Path, part: str) -> None:
    """Each value in turn replaced by each odd one; nothing but a `DataError`, with the file's or the image's name."""
    draw_coco(tmp_path, n=1, splits=("train",))
    path = tmp_path / "annotations/instances_train2017.json"
    text = path.read_text()
    keys = [None, *json.loads(text)[part][0]]
    for key in keys:
        for odd in ODD:
            content = json.loads(text)
            if key is None:
                content[part] = odd if odd in ([], {}) else [odd]
            else:
                content[part][0][key] = odd
            write(path, json.dumps(content))
            error = ""
            try:
                dataset = load_dataset("coco", tmp_path)
                for sample in dataset.samples:
                    dataset.truth(sample)
            except DataError as caught:
                error = str(caught)
            assert len(error) < 700 + len(str(tmp_path)) * 4
            assert not error or re.search("instances_train2017|image id|split 'train2017'|000000000001", error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"images": ' + "[" * 5000 + "]" * 5000 + "}", "nested too deeply"),
        ('{"images": [' + "1" * 5000 + "]}", "thousands of digits"),
        ("[]", "it has no 'images'; expected an object with images, annotations, categories"),
        ("7", "it has no 'images'"),
        ('{"images": {}, "annotations": [], "categories": []}', "'images' is an object, expected a list"),
        ('{"images": [], "annotations": [7], "categories": []}', "'annotations', number 0, is 7, expected an object"),
    ],
)
def test_json_of_another_shape_is_named(tmp_path: Path, text: str, message: str) -> None:
    draw_coco(tmp_path, n=1, splits=("train",))
    write(tmp_path / "annotations/instances_train2017.json", text)
    with pytest.raises(DataError, match=rf"instances_train2017\.json.*{message}"):
        load_dataset("coco", tmp_path)
    (tmp_path / "annotations/instances_train2017.json").write_bytes(b'{"images": "\xff"}')
    with pytest.raises(DataError, match=r"instances_train2017\.json is not UTF-8"):
        load_dataset("coco", tmp_path)


def test_backslashes_in_file_names_are_folders(tmp_path: Path) -> None:
    save_image(tmp_path / "train2017/a/b/7.jpg", np.full((H, W, 3), 90, dtype=np.uint8))
    image = {"id": 7, "file_name": "a\\b\\7.jpg", "height": H, "width": W}
    write_coco(tmp_path / "annotations/instances_train2017.json", [image], [coco_annotation(1, 7, 1, box(1, 1, 5, 5))])
    dataset = load_dataset("coco", tmp_path, "train2017")
    assert dataset.samples[0].image == tmp_path / "train2017/a/b/7.jpg"
    for name in ("..\\7.jpg", "\\etc\\7.jpg", "C:\\7.jpg"):
        write_coco(tmp_path / "annotations/instances_train2017.json", [image | {"file_name": name}], [])
        with refused(DataError, "leads out", "image folder"):
            load_dataset("coco", tmp_path, "train2017")


def test_train_stands_for_the_one_year_that_is_there(tmp_path: Path) -> None:
    draw_coco(tmp_path, n=1, year=2014)
    assert load_dataset("coco", tmp_path).split == "train2014"
    assert load_dataset("coco", tmp_path, "val").split == "val2014"
    draw_coco(tmp_path, n=1, splits=("train",))
    with pytest.raises(DataError, match=r"'train' could be train2014 or train2017.*such as data\.train=train2017"):
        load_dataset("coco", tmp_path)
    assert load_dataset("coco", tmp_path, "train2014").split == "train2014"
    with pytest.raises(DataError, match=r"unknown split 'train2015'; did you mean 'train201[47]'\?"):
        load_dataset("coco", tmp_path, "train2015")


def test_images_may_lie_in_a_folder_images(tmp_path: Path) -> None:
    draw_coco(tmp_path, n=1, splits=("train",))
    (tmp_path / "images").mkdir()
    (tmp_path / "train2017").rename(tmp_path / "images/train2017")
    dataset = load_dataset("coco", tmp_path)
    assert dataset.samples[0].image == tmp_path / "images/train2017/000000000001.jpg"
    (tmp_path / "images/train2017").rename(tmp_path / "images/else")
    with pytest.raises(DataError, match=r"train2017 does not exist: expected annotations/instances_<split>\.json"):
        load_dataset("coco", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": None}, "'annotations' … missing or null … expected a list"),
        (
            {"categories": [{"id": 1}]},
            "category 0: name … missing or null … expected text",
        ),
        ({"categories": []}, "annotation 10 … category 1, … the file lacks"),
        ({"images": []}, "annotation 10 … image 1, … the file lacks"),
        ({"images": [], "annotations": []}, "split 'train2017' of data=coco holds no images"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "1 images or categories … their id"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "has class 'a' twice"),
    ],
)
def test_a_file_that_does_not_fit_the_format_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    draw_coco(tmp_path, n=1, splits=("train",))
    path = tmp_path / "annotations/instances_train2017.json"
    write(path, json.dumps(json.loads(path.read_text()) | change))
    with refused(DataError, message):
        load_dataset("coco", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../000000000001.jpg", "'../000000000001.jpg' … leads out"),
        ("/etc/x.jpg", "'/etc/x.jpg' … leads out"),
        (".jpg", "'.jpg' … not a safe file name"),
        ("2.jpg", "1 of 1 images … do not exist … train2017/2.jpg"),
    ],
)
def test_a_bad_file_name_is_named(tmp_path: Path, name: str, message: str) -> None:
    draw_coco(tmp_path, n=1, splits=("train",))
    path = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = name
    write(path, json.dumps(content))
    with refused(DataError, message):
        load_dataset("coco", tmp_path)


def test_broken_json_names_its_line(tmp_path: Path) -> None:
    draw_coco(tmp_path, n=1, splits=("train",))
    write(tmp_path / "annotations/instances_train2017.json", '{"images": [\n{"id": ]}')
    with pytest.raises(DataError, match=r"instances_train2017\.json, line 2: not valid JSON"):
        load_dataset("coco", tmp_path)


def test_a_size_that_is_not_the_images_is_refused(tmp_path: Path) -> None:
    dataset = one_image(tmp_path, [coco_annotation(1, 7, 1, box(1, 1, 5, 5))])
    save_image(tmp_path / "train2017/7.jpg", np.zeros((H + 1, W, 3), dtype=np.uint8))
    with refused(DataError, "mask of '7'", "is 30 x 20 pixels", "is 30 x 21"):
        truth_of(dataset)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    draw_coco(tmp_path)
    dataset = load_dataset("coco", tmp_path)
    assert dataset.classes == CLASSES
    truth_of(dataset)
    assert capfd.readouterr() == ("", "")
