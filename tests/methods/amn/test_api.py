"""`AMN` for a user's own model: beside `CAM` and `LPCAM` in grammar and checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from tag2mask import AMN
from tag2mask.backbones.feature_layer import _is_grid
from tag2mask.backbones.files import write_weights
from tag2mask.core.errors import ConfigError, DataError, StageError, TrainingError, WeightsError
from tag2mask.core.types import ActivationMaps
from tests.helpers.refused import refused

Batch = tuple[Tensor, Tensor, Tensor]


class Small(nn.Module):
    """Three convolutions with batch norm and dropout, pooling, a linear layer."""

    def __init__(self, n_classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU(), nn.Dropout(0.2),
        )  # fmt: skip
        self.fc = nn.Linear(24, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.body(images).mean((2, 3)))
        return logits


def batches(n: int = 2, height: int = 32, width: int = 48) -> list[Batch]:
    """Each class c brightens channel c of its own third, from left to right."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(n):
        images = 0.3 * torch.randn(4, 3, height, width, generator=generator)
        tags = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]])
        seeds = torch.zeros(4, height, width, dtype=torch.int64)
        for i, c in tags.nonzero().tolist():
            third = slice(c * width // 3, (c + 1) * width // 3)
            images[i, c, :, third] += 2
            seeds[i, :, third] = c + 1
        seeds[:, :2] = 255
        found.append((images, tags, seeds))
    return found


def fitted(**values: Any) -> AMN:
    return AMN(Small(), "body", **{"epochs": 2, "lr": 1e-3, "head_lr": 1e-2, **values}).fit(batches())


def same(a: list[ActivationMaps], b: list[ActivationMaps]) -> bool:
    return all(torch.equal(x.maps, y.maps) for x, y in zip(a, b, strict=True))


def test_it_learns_and_gives_maps_of_the_present_classes() -> None:
    amn = fitted(epochs=40, normalise="learned", dropout=0.0)
    images, tags, seeds = batches(3)[2]
    found = amn(images, tags)
    assert [m.classes for m in found] == [(0,), (1,), (2,), (0, 2)]
    for maps, truth in zip(found, seeds, strict=True):
        assert maps.maps.shape == (len(maps.classes), 8, 12)
        big = maps.resize(32, 48).maps
        for c, own in zip(maps.classes, big, strict=True):
            assert own[truth == c + 1].mean() > 0.7
            assert own[truth == 0].mean() < 0.4


def test_maps_go_from_0_to_1_and_an_image_without_tags_has_none() -> None:
    amn, (images, tags, _) = fitted(scales=(0.5, 1.0), mirror=True, normalise="minmax"), batches()[0]
    tags[1] = 0
    found = amn(images, tags)
    assert found[1].classes == ()
    assert found[1].maps.shape == (0, 8, 12)
    assert all((m.amin(), m.amax()) == (0, 1) for maps in found for m in maps.maps)


def test_mirrored_images_give_mirrored_maps() -> None:
    amn, (images, tags, _) = fitted(mirror=True), batches()[0]
    for there, back in zip(amn(images, tags), amn(images.flip(-1), tags), strict=True):
        torch.testing.assert_close(there.maps, back.maps.flip(-1), rtol=1e-4, atol=1e-4)


def test_images_of_a_batch_do_not_look_at_each_other() -> None:
    amn, (images, tags, _) = fitted(), batches()[0]
    alone = [amn(images[i : i + 1], tags[i : i + 1])[0] for i in range(4)]
    for a, b in zip(amn(images, tags), alone, strict=True):
        torch.testing.assert_close(a.maps, b.maps, rtol=1e-4, atol=1e-4)


def test_the_model_is_left_as_it_was() -> None:
    model = Small().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    amn = AMN(model, epochs=1, lr=0.1).fit(batches())
    amn(*batches()[0][:2])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks for m in model.modules())


def test_same_seed_same_maps_and_dropout_off_when_called() -> None:
    (images, tags, _) = batches()[0]
    a, b, c = fitted(), fitted(), fitted(seed=1)
    assert same(a(images, tags), a(images, tags))
    assert same(a(images, tags), b(images, tags))
    assert not same(a(images, tags), c(images, tags))
    model = Small()
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    AMN(model, epochs=1).fit(batches())(images, tags)
    assert torch.equal(torch.rand(1), drawn), "torch's random numbers are left alone"


def test_tags_condition_or_do_not() -> None:
    images, tags, _ = batches()[0]
    every = torch.ones_like(tags)
    told, plain = fitted(), fitted(condition=False)

    def first(amn: AMN, given: Tensor) -> Tensor:
        return amn(images[:1], given[:1])[0].maps[0]

    assert not torch.allclose(first(told, tags), first(told, every))
    assert torch.equal(first(plain, tags), first(plain, every))


def test_a_generator_serves_one_epoch() -> None:
    once, again = AMN(Small(), epochs=1), AMN(Small(), epochs=1)
    images, tags, _ = batches()[0]
    assert same(once.fit(iter(batches()))(images, tags), again.fit(batches())(images, tags))
    with refused(DataError, "ended before the last epoch", "a generator"):
        AMN(Small(), epochs=2).fit(iter(batches()))


def test_batches_of_several_sizes_and_one_class() -> None:
    wide, (images, tags, seeds) = batches(1, 40, 30)[0], batches(1)[0]
    AMN(Small(), epochs=1).fit([wide, (images, tags, seeds)])
    one = (images[:1], tags[:1, :1], seeds[:1])
    found = AMN(Small(), epochs=1).fit([one])(images, tags[:, :1])
    assert [m.classes for m in found] == [(0,), (), (), (0,)]


def changed(index: int, value: Any) -> list[Any]:
    batch: list[Any] = list(batches(1)[0])
    batch[index] = value
    return [tuple(batch)]


IMAGES, TAGS, SEEDS = batches(1)[0]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], "fit got no batch … (images, tags, refined_seeds)"),
        ([(IMAGES, TAGS)], "fit expects triples … (images, tags, refined_seeds) … got tuple"),
        (changed(0, IMAGES * float("nan")), "images [0, 1, 2, 3] of the batch hold NaN"),
        (changed(1, TAGS[:2]), "tags must be … (images, classes) = (4, 3) … got (2, 3)"),
        (changed(1, TAGS * 2), "tags must be 0 or 1 everywhere"),
        (changed(2, None), "refined_seeds must be … (N, H, W) = (4, 32, 48) … got NoneType"),
        (changed(2, SEEDS[:, 1:]), "refined_seeds must be … (N, H, W) = (4, 32, 48) … got (4, 31, 48)"),
        (
            changed(2, SEEDS + 3 * (SEEDS == 1)),
            "image 0 of a batch hold 4, … the data",
        ),
        (changed(2, SEEDS + (SEEDS == 1)), "image 0 … class column 1, … class column 0"),
        (changed(2, torch.full_like(SEEDS, 255)), "every pixel … ignored (255)"),
    ],
)
def test_bad_batches_are_refused(given: list[Any], text: str) -> None:
    with refused(DataError, text):
        AMN(Small(), epochs=1).fit(given)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"layer": "bodi"}, "unknown layer 'bodi' … did you mean 'body'"),
        ({"scales": ()}, "scales = () … one or more numbers above 0"),
        ({"epochs": 0}, "setting 'AMN.train.epochs' = 0"),
        ({"smoothing": 1.5}, "setting 'AMN.smoothing' = 1.5"),
        ({"normalise": "background-prior"}, "normalise = 'background-prior' … refined seeds at each call"),
        ({"normalise": "max"}, "setting 'AMN.normalise' = 'max'"),
        ({"smoothing": 0.8}, "smoothing = 0.8 … no larger share"),
    ],
)
def test_bad_arguments_are_refused(values: dict[str, Any], text: str) -> None:
    with refused(ConfigError, text):
        AMN(Small(), **values).fit(batches())


def test_what_is_no_batches_is_refused() -> None:
    with refused(DataError, "fit expects batches", "such as a list", "got int"):
        AMN(Small()).fit(5)  # type: ignore[arg-type]  # a user's mistake


@pytest.mark.parametrize(
    ("name", "words"), [("vit_tiny_patch16_224", {"img_size": 64}), ("swin_tiny_patch4_window7_224", {"img_size": 64})]
)
def test_tokens_and_channels_that_come_last_are_no_feature_map(name: str, words: dict[str, Any]) -> None:
    model = timm.create_model(name, pretrained=False, num_classes=3, **words)
    with refused(ConfigError, "feature map (N, D, h, w)", "Pass layer="):
        AMN(model, epochs=1).fit(batches(1, 64, 64))


@pytest.mark.parametrize(
    ("size", "grid", "fits"),
    [
        ((100, 400), (4, 13), True), ((375, 500), (24, 32), True), ((299, 299), (8, 8), True),
        ((32, 48), (32, 48), True), ((224, 224), (197, 64), False), ((224, 224), (7, 768), False),
        ((224, 224), (197, 197), False), ((160, 160), (101, 32), False),
    ],
)  # fmt: skip
def test_a_feature_map_has_the_shape_of_its_image(size: tuple[int, int], grid: tuple[int, int], fits: bool) -> None:
    assert _is_grid(torch.zeros(1, 5, *grid), torch.zeros(1, 3, *size)) == fits


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_precision_are_copied_in_float32(dtype: torch.dtype) -> None:
    given = [(images.to(dtype), tags, seeds) for images, tags, seeds in batches(1)]
    found = AMN(Small().to(dtype), epochs=1).fit(given)(given[0][0], TAGS)
    assert found[0].maps.dtype == torch.float32
    if dtype == torch.float64:  # the copy is that of a float32 model
        assert same(found, AMN(Small(), epochs=1).fit(batches(1))(IMAGES, TAGS))


def test_a_model_of_grey_images_is_trained_on_grey_images() -> None:
    model = Small()
    first = next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    old = model.get_submodule(first)
    assert isinstance(old, nn.Conv2d)
    model.set_submodule(first, nn.Conv2d(1, old.out_channels, 3, stride=2, padding=1))
    grey = IMAGES[:, :1]
    amn = AMN(model, epochs=1).fit([(grey, TAGS, SEEDS)])
    assert [len(found.maps) for found in amn(grey, TAGS)] == TAGS.sum(1).tolist()


def test_calls_are_checked() -> None:
    with refused(StageError, "AMN is not trained", "fit(batches) or load(path)"):
        AMN(Small())(IMAGES, TAGS)
    amn = fitted()
    with refused(DataError, "tags must be", "(images, classes) = (4, 3)", "got (4, 2)"):
        amn(IMAGES, TAGS[:, :2])
    with refused(DataError, "images must be", "floating tensor"):
        amn(IMAGES[0], TAGS)


def test_loss_that_is_no_number_stops_the_training() -> None:
    with refused(TrainingError, "the loss is nan", "epoch 1 of 5, step "):
        AMN(Small(), lr=1e30, head_lr=1e30).fit(batches(8))


def test_it_can_stand_in_a_with_statement() -> None:
    with AMN(Small(), epochs=1) as amn:
        assert len(amn.fit(batches())(IMAGES, TAGS)) == 4


@pytest.mark.parametrize("condition", [True, False])
def test_a_saved_network_gives_the_same_maps_on_a_fresh_model(tmp_path: Path, condition: bool) -> None:
    amn = fitted(condition=condition)
    amn.save(tmp_path / "amn.safetensors")
    again = AMN(Small()).load(tmp_path / "amn.safetensors")  # the layer travels with the file
    images, tags, _ = batches(3)[2]
    assert same(amn(images, tags), again(images, tags))
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "amn.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_files_and_models_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "amn.safetensors"
    with refused(StageError, "AMN is not trained", "call fit"):
        AMN(Small(), "body").save(path)
    fitted().save(path)
    with refused(WeightsError, "amn.safetensors does not fit", "body", "Load it"):
        AMN(nn.Sequential(nn.Conv2d(3, 4, 1))).load(path)
    with refused(WeightsError, "this Small", "'body.model.fc.bias' is (3,)", "expected (5,)"):
        AMN(Small(n_classes=5)).load(path)
    with pytest.raises(WeightsError, match="there is no such file"):
        AMN(Small()).load(tmp_path / "none.safetensors")
    write_weights(Small(), path, {"classes": []})
    with refused(WeightsError, "holds no AMN", "model of your own"):
        AMN(Small()).load(path)
