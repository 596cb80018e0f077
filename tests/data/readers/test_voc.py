"""The reader ``voc``: lists, annotations, class order, mask folders."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.palette import write_labels
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.readers.voc import VOC_CLASSES, read_objects
from tag2mask.data.registry import load_dataset
from tests.helpers.draw import CLASSES, draw_voc, save_image, voc_xml, write
from tests.helpers.refused import refused

LISTS = Path("ImageSets/Segmentation")


def voc(root: Path, split: str = "train", **settings: Any) -> Dataset:
    return load_dataset("voc", root, split, **settings)


def truth_of(dataset: Dataset, index: int = 0) -> Labels:
    truth = dataset.truth(dataset.samples[index])
    assert truth is not None
    return truth


def test_tags_are_the_distinct_objects_difficult_ones_included(tmp_path: Path) -> None:
    text = (
        "<annotation><object><name>stripe</name><part><name>head</name></part></object>"
        "<object><name>disc</name><difficult>1</difficult></object><object><name> stripe </name></object></annotation>"
    )
    draw_voc(tmp_path)
    write(tmp_path / "Annotations/2007_000001.xml", text)
    assert read_objects(tmp_path / "Annotations/2007_000001.xml") == ("stripe", "disc", "stripe")
    assert voc(tmp_path).samples[0].tags == (0, 2)


def test_vocs_own_names_have_vocs_own_indices(tmp_path: Path) -> None:
    scenes = draw_voc(tmp_path)
    (tmp_path / "classes.txt").unlink()
    for name in scenes:
        write(tmp_path / f"Annotations/{name}.xml", voc_xml(["person", "cat"]))
        write_labels(tmp_path / f"SegmentationClass/{name}.png", np.full(scenes[name].labels.shape, 8, dtype=np.uint8))
    dataset = voc(tmp_path)
    assert dataset.classes == VOC_CLASSES
    assert (VOC_CLASSES.index("cat"), VOC_CLASSES.index("person"), VOC_CLASSES.index("tvmonitor")) == (7, 14, 19)
    assert dataset.samples[0].tags == (7, 14)
    assert set(np.unique(truth_of(dataset)).tolist()) == {8}
    assert set(np.unique(truth_of(voc(tmp_path, classes=["person", "cat"]))).tolist()) == {2}


def test_other_names_need_a_class_list(tmp_path: Path) -> None:
    draw_voc(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(
        DataError, match=r"'disc', 'square', 'stripe' are not among VOC's 20.*classes\.txt.*all_classes"
    ):
        voc(tmp_path)
    assert voc(tmp_path, all_classes=["square", "stripe", "disc"]).samples[0].tags == (2,)


def test_the_setting_goes_before_the_file(tmp_path: Path) -> None:
    draw_voc(tmp_path)
    assert voc(tmp_path).classes == CLASSES
    assert voc(tmp_path, all_classes=["x", *CLASSES]).classes == ("x", *CLASSES)
    with pytest.raises(DataError, match=r"2007_000003\.xml: unknown class 'stripe'; did you mean 'stripes'"):
        voc(tmp_path, all_classes=["disc", "square", "stripes"])


def test_a_list_with_two_columns_names_image_and_mask(tmp_path: Path) -> None:
    scenes = draw_voc(tmp_path, masks="Elsewhere")
    rows = [f"/JPEGImages/{i}.jpg /Elsewhere/{i}.png\n" for i in list(scenes)[2:5]]
    write(tmp_path / LISTS / "train_aug.txt", "".join(rows))
    dataset = voc(tmp_path, "train_aug")
    assert [s.id for s in dataset.samples] == list(scenes)[2:5]
    for index, name in enumerate(list(scenes)[2:5]):
        assert np.array_equal(truth_of(dataset, index), scenes[name].labels)
    assert not voc(tmp_path, "train").has_truth
    (tmp_path / "Mine").mkdir()
    assert not voc(tmp_path, "train_aug", masks="Mine").has_truth  # the setting goes before the list


def test_a_list_may_have_a_byte_order_mark_crlf_and_file_names(tmp_path: Path) -> None:
    draw_voc(tmp_path)
    write(tmp_path / LISTS / "odd.txt", "\ufeff2007_000002\r\n\r\n2007_000001.jpg\r\n")
    assert [s.id for s in voc(tmp_path, "odd").samples] == ["2007_000001", "2007_000002"]


def test_masks_come_from_one_folder_the_one_with_most_of_the_split(tmp_path: Path) -> None:
    scenes = draw_voc(tmp_path, masks="SegmentationClassAug")
    both = list(scenes)[:4]
    for name in both:  # distinguished by a void pixel
        marked = scenes[name].labels.copy()
        marked[0, 0] = 255
        write_labels(tmp_path / f"SegmentationClass/{name}.png", marked)
    write(tmp_path / LISTS / "some.txt", "\n".join(both))
    assert truth_of(voc(tmp_path, "some"))[0, 0] == 255
    assert truth_of(voc(tmp_path, "train"))[0, 0] == 0
    chosen = voc(tmp_path, "train", masks="SegmentationClass")
    assert [s.truth is None for s in chosen.samples] == [False] * 4 + [True] * 2
    assert chosen.truth(chosen.samples[5]) is None
    with refused(DataError, "Mine does not exist", "data.masks"):
        voc(tmp_path, masks="Mine")


def test_without_masks_there_is_no_ground_truth(tmp_path: Path) -> None:
    draw_voc(tmp_path, masks="Nowhere")
    dataset = voc(tmp_path)
    assert not dataset.has_truth
    assert dataset.truth(dataset.samples[0]) is None


def test_images_may_have_other_endings_but_not_two(tmp_path: Path) -> None:
    scenes = draw_voc(tmp_path)
    (tmp_path / "JPEGImages/2007_000001.jpg").unlink()
    save_image(tmp_path / "JPEGImages/2007_000001.PNG", scenes["2007_000001"].image)
    dataset = voc(tmp_path)
    assert np.array_equal(np.asarray(dataset.image(dataset.samples[0])), scenes["2007_000001"].image)
    save_image(tmp_path / "JPEGImages/2007_000001.jpg", scenes["2007_000001"].image)
    with refused(DataError, "2007_000001.PNG", "2007_000001.jpg", "the same name"):
        voc(tmp_path)


def test_a_rotated_photo_turns_its_mask(tmp_path: Path) -> None:
    scenes = draw_voc(tmp_path)
    name = "2007_000001"
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(scenes[name].image).save(tmp_path / f"JPEGImages/{name}.jpg", exif=tags)
    dataset = voc(tmp_path)
    assert np.array_equal(truth_of(dataset), np.rot90(scenes[name].labels, -1))
    assert dataset.image(dataset.samples[0]).size == truth_of(dataset).shape[::-1]


def test_an_empty_annotation_is_an_error_unless_allowed(tmp_path: Path) -> None:
    draw_voc(tmp_path)
    write(tmp_path / "Annotations/2007_000001.xml", voc_xml([]))
    with pytest.raises(DataError, match=r"2007_000001\.xml has no <object>: set data\.allow_empty=true"):
        voc(tmp_path)
    assert voc(tmp_path, allow_empty=True).samples[0].tags == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>\n<object>\n</annotation>", "2007_000001.xml, line 3: not valid XML (mismatched tag"),
        ("", "2007_000001.xml, line 1 … not valid XML … no element found"),
        ("<annotation><object/></annotation>", "2007_000001.xml: object 1 has no <name>"),
        (
            '<!DOCTYPE x [<!ENTITY a "disc">]><annotation><object><name>&a;</name></object></annotation>',
            "2007_000001.xml, line 1 … not valid XML … type 'x' is not allowed",
        ),
    ],
)
def test_a_bad_annotation_is_named(tmp_path: Path, text: str, message: str) -> None:
    draw_voc(tmp_path)
    write(tmp_path / "Annotations/2007_000001.xml", text)
    with refused(DataError, message):
        voc(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2009_1", "bad.txt names 1 of 2 images … do not exist … JPEGImages/2009_1.jpg"),
        ("../secret", "bad.txt, line 2: '../secret' leads out of data.root"),
        ("/JPEGImages/../../x.jpg /S/x.png", "line 2: '/JPEGImages/../../x.jpg' leads out"),
        ("/JPEGImages/2007_000002.jpg /S/x.png", "line 2: mask … S/x.png does not exist"),
        ("2007_000002 -1", "line 2: '2007_000002 -1' … neither one id"),
        ("sub/2007_000002", "names 1 of 2 images … do not exist"),
        ("2007_000001", "image id '2007_000001' occurs twice"),
    ],
)
def test_a_bad_line_in_a_list_is_named(tmp_path: Path, line: str, message: str) -> None:
    draw_voc(tmp_path)
    write(tmp_path / LISTS / "bad.txt", f"2007_000001\n{line}\n")
    with refused(DataError, message):
        voc(tmp_path, "bad")


def test_missing_parts_of_the_layout_are_named(tmp_path: Path) -> None:
    draw_voc(tmp_path / "VOC2012")
    root = tmp_path / "VOC2012"
    with pytest.raises(DataError, match=r"Segmentation does not exist: expected JPEGImages/.*data\.root=.*VOC2012\?"):
        voc(tmp_path)
    with refused(DataError, "unknown split 'trian'", "did you mean 'train'?", "Known: train, val"):
        voc(root, "trian")
    (root / "Annotations/2007_000002.xml").unlink()
    with refused(DataError, "2007_000002.xml does not exist", "annotation"):
        voc(root)
    write(root / LISTS / "none.txt", "\n")
    with pytest.raises(DataError, match="split 'none' of data=voc holds no images"):
        voc(root, "none", all_classes=["a"])


def test_an_index_without_a_class_is_named(tmp_path: Path) -> None:
    scenes = draw_voc(tmp_path)
    labels = scenes["2007_000001"].labels.copy()
    labels[:2, :2], labels[5, 5] = 4, 77
    write_labels(tmp_path / "SegmentationClass/2007_000001.png", labels)
    with pytest.raises(DataError, match=r"2007_000001\.png holds indices 4, 77: expected 0 \(background\), 1\.\.3"):
        truth_of(voc(tmp_path))


@pytest.mark.parametrize("encoding", ["foo", "utf-32", "shift_jis", "utf-16", "hex", "idna", "undefined"])
def test_an_encoding_that_cannot_be_read_names_the_file(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?>{voc_xml(["cat"])}')
    with refused(DataError, "a.xml", "XML", ("Save it as UTF-8", "copy it again")):
        read_objects(path)


def test_what_is_no_file_in_the_place_of_an_annotation_or_a_list_is_named(tmp_path: Path) -> None:
    draw_voc(tmp_path, n=1)
    annotation = tmp_path / "Annotations/2007_000001.xml"
    annotation.unlink()
    os.mkfifo(annotation)
    with pytest.raises(DataError, match=r"annotation .*2007_000001\.xml is not a file"):
        load_dataset("voc", tmp_path)
    annotation.unlink()
    annotation.mkdir()
    with pytest.raises(DataError, match=r"annotation .*2007_000001\.xml is not a file"):
        load_dataset("voc", tmp_path)
    split = tmp_path / "ImageSets/Segmentation/train.txt"
    split.write_text("x" * 5000)
    with refused(DataError, "cannot look at", "File name too long"):
        load_dataset("voc", tmp_path)
    split.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"train\.txt is not UTF-8 text"):
        load_dataset("voc", tmp_path)
    split.unlink()
    split.mkdir()
    with refused(DataError, "train.txt is a folder", "expected a text file"):
        load_dataset("voc", tmp_path)


def test_objects_count_in_any_namespace(tmp_path: Path) -> None:
    """With ``allow_empty`` they would else be negatives, without a word."""
    path = write(
        tmp_path / "a.xml", voc_xml(["cat"]).replace("<annotation>", '<annotation xmlns="http://example.org">')
    )
    assert read_objects(path, allow_empty=True) == ("cat",)
