"""CAM, LPCAM and AMN on other people's models: which layer is taken, whose weights, and what is refused in words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from tag2mask import AMN, CAM, LPCAM
from tag2mask.backbones.feature_layer import examine, feature_layer
from tag2mask.core.errors import ConfigError, DataError, Tag2MaskError, WeightsError
from tag2mask.core.types import ActivationMaps, Prototypes
from tag2mask.methods.lpcam.prototypes_file import save_prototypes
from tests.helpers.refused import refused


class Net(nn.Module):
    """Convolutions, a mean, and a classifier of a form to choose."""

    def __init__(self, n_classes: int = 3, middle: nn.Module | None = None, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.last = nn.Sequential(nn.Conv2d(8, 6, 3, 2, 1), nn.ReLU())
        self.middle = middle or nn.Identity()
        self.fc: nn.Module = nn.Linear(6, n_classes)

    def features(self, images: Tensor) -> Tensor:
        found: Tensor = self.last(self.stem(images))
        return found

    def forward(self, images: Tensor) -> Any:
        return self.fc(self.middle(self.features(images).mean((2, 3))))


IMAGES = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(7))
TAGS = torch.tensor([[0, 1, 1], [1, 0, 0]])


def same(a: list[ActivationMaps], b: list[ActivationMaps], within: float = 0.0) -> bool:
    return all(torch.allclose(x.maps, y.maps, rtol=0, atol=within) for x, y in zip(a, b, strict=True))


def exact_maps(model: nn.Module, weights: Tensor) -> list[ActivationMaps]:
    return CAM(model, "last", weights=weights)(IMAGES, TAGS)


# --- which layer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words", "size", "layer", "given"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64}, 64, "norm", "(1, 17, 192)"),
        ("mixer_s32_224", {}, 224, "norm", "(1, 49, 512)"),
        ("beit_base_patch16_224", {"img_size": 64, "depth": 2, "embed_dim": 96}, 64, "blocks.1", "(1, 17, 96)"),
        ("levit_128s", {}, 224, "stages", "(1, 16, 384)"),
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "depths": (1, 1, 1, 1)}, 64, "norm", "(1, 2, 2, 768)"),
    ],
)
def test_tokens_are_refused_by_the_name_of_the_layer_found(
    name: str, words: dict[str, Any], size: int, layer: str, given: str
) -> None:
    model = timm.create_model(name, pretrained=False, num_classes=3, **words).eval()
    images = torch.randn(2, 3, size, size)
    for method in (CAM, AMN):
        with pytest.raises(ConfigError) as caught:
            method(model)(images, TAGS) if method is CAM else feature_layer(model, images)
        assert f"layer '{layer}' is the last" in str(caught.value)
        assert given in str(caught.value)
        assert "Pass layer=" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "layer", "classifier"),
    [
        ("test_efficientnet", "bn2", "classifier"),
        ("test_resnet", "layer4", "fc"),
        ("pvt_v2_b0", "stages", "head"),
        ("mobilevitv2_050", "stages", "head.fc"),
        ("dla34", "level5", "fc"),
        ("regnetx_002", "s4", "head.fc"),
    ],
)
def test_the_mean_of_the_map_and_the_bias_are_the_logit(name: str, layer: str, classifier: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=3).eval()
    images = torch.randn(2, 3, 96, 64)
    found = examine(model, images, None, None)
    assert found.reading is not None
    assert found.affine is not None
    assert (found.name, found.reading.name) == (layer, classifier)
    features = found.features(model, images)
    assert features is not None
    activation = torch.einsum("cd,ndhw->nchw", found.weights, features)
    with torch.no_grad():
        torch.testing.assert_close(activation.mean((2, 3)) + found.affine.bias, model(images), atol=1e-5, rtol=1e-4)


def test_an_auxiliary_branch_is_not_taken() -> None:
    class Branched(Net):
        def __init__(self) -> None:
            super().__init__()
            self.aux = nn.Conv2d(6, 5, 1)

        def forward(self, images: Tensor) -> Any:
            features = self.features(images)
            self.aux(features)  # the last module that gives a map, and nothing comes of it
            return self.fc(features.mean((2, 3)))

    assert examine(Branched(), IMAGES, None, None).name == "last"
    assert feature_layer(Branched(), IMAGES) == ("last", 6)
    with refused(ConfigError, "layer 'aux'", "'last'", "Leave layer= out"):
        CAM(Branched(), "aux")(IMAGES, TAGS)


def test_frozen_detached_and_shared_parts_are_seen_through() -> None:
    class Frozen(Net):
        def features(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                return super().features(images)

    class Detached(Net):
        def features(self, images: Tensor) -> Tensor:
            found = super().features(images).detach()
            assert found.detach().numpy().ndim == 4
            return found

    class Unwatched(Net):
        @torch.no_grad()
        def forward(self, images: Tensor) -> Any:
            return super().forward(images)

    class Shared(Net):
        def features(self, images: Tensor) -> Tensor:
            found: Tensor = self.last[1](self.last[0](self.stem(images)))
            return found

        def forward(self, images: Tensor) -> Any:
            return self.fc(self.last[1](self.features(images).mean((2, 3))))  # the same ReLU after the pooling

    expected = CAM(Net())(IMAGES, TAGS)
    for model in (Frozen(), Detached(), Unwatched(), Shared(), Net().requires_grad_(False)):
        assert same(CAM(model)(IMAGES, TAGS), expected)
        assert all(p.grad is None for p in model.parameters())


def test_one_of_several_maps_is_not_guessed() -> None:
    class Gated(Net):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Conv2d(6, 1, 1)

        def features(self, images: Tensor) -> Tensor:
            features = super().features(images)
            gate: Tensor = self.gate(features)
            return features * gate.sigmoid()  # no module gives the product

    for find in (lambda: CAM(Gated())(IMAGES, TAGS), lambda: feature_layer(Gated(), IMAGES)):
        with refused(ConfigError, "'gate'", "1, 6, 8", "is the last", "such as 'last'"):
            find()
    assert feature_layer(Gated(), IMAGES, "last") == ("last", 6)


def test_one_of_two_networks_whose_scores_are_added_is_not_taken_for_both() -> None:
    class Sum(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.a, self.b = Net(seed=seed), Net(seed=seed + 100)

        def forward(self, images: Tensor) -> Any:
            return self.a(images) + self.b(images)

    for seed in range(6):  # in some of them the scores come in the order of those of the second network alone
        with pytest.raises((ConfigError, WeightsError), match=r"'b\.(fc|last)"):
            CAM(Sum(seed))(IMAGES, TAGS)


def test_weights_that_other_modules_make_are_read_and_nothing_is_left_of_it() -> None:
    for change in (nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm):
        model = Net().train()
        change(model.fc)
        before = copy.deepcopy(model.state_dict())
        cam = CAM(model)
        for _ in range(2):
            found = cam(IMAGES, TAGS)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(module.training for module in model.modules())
        model.eval()
        assert isinstance(model.fc, nn.Linear)
        assert same(found, exact_maps(model, model.fc.weight.detach()))


def test_what_cannot_be_seen_needs_a_layer() -> None:
    class Inference(Net):
        @torch.inference_mode()
        def forward(self, images: Tensor) -> Any:
            return super().forward(images)

    with refused(ConfigError, "no gradient", "Pass layer="):
        CAM(Inference())(IMAGES, TAGS)
    assert same(CAM(Inference(), "last")(IMAGES, TAGS), CAM(Net())(IMAGES, TAGS))

    class Elsewhere(nn.Linear):  # computed by another library
        def forward(self, pooled: Tensor) -> Tensor:
            return super().forward(torch.from_numpy(pooled.detach().numpy()))

    model = Net()
    model.fc = Elsewhere(6, 3).requires_grad_(False)
    with refused(ConfigError, "gradient ends", "module 'fc'", "Elsewhere", "Pass layer="):
        CAM(model)(IMAGES, TAGS)
    assert same(CAM(model, "last")(IMAGES, TAGS), exact_maps(model, model.fc.weight))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: setattr(m, "middle", nn.LayerNorm(6)), r"lies between \('middle' \(LayerNorm\)\)"),
        (lambda m: setattr(m, "middle", nn.ReLU6()), None),
        (lambda m: setattr(m, "middle", nn.Softmax(1)), "not 'fc' applied to the mean of layer 'last'"),
        (lambda m: setattr(m, "fc", nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))), "takes 9 numbers"),
        (lambda m: setattr(m, "fc", nn.Bilinear(6, 6, 3)), None),
    ],
)
def test_a_head_that_is_not_linear_is_refused_without_wrong_advice(
    change: Callable[[nn.Module], None], text: str | None
) -> None:
    model = Net()
    nn.init.normal_(next(model.fc.parameters()), std=1e-5)  # as networks begin: nothing is hidden by small logits
    change(model)
    if isinstance(model.fc, nn.Bilinear):
        model.forward = lambda x: model.fc(*[model.features(x).mean((2, 3))] * 2)  # type: ignore[method-assign,assignment]
        text = "no linear layer or 1 x 1 convolution runs after layer 'last'"
    if text is None:  # what does nothing to these values
        assert CAM(model)(IMAGES, TAGS)
        return
    with pytest.raises(WeightsError, match=text) as caught:
        CAM(model)(IMAGES, TAGS)
    assert "Pass layer=" not in str(caught.value)
    assert "AMN learns on any feature map" in str(caught.value)
    assert feature_layer(model, IMAGES) == ("last", 6)


@pytest.mark.parametrize("after", [lambda y: -y, lambda y: y.flip(1), None])
@pytest.mark.parametrize("n_classes", [3, 1])
def test_scores_that_are_not_the_classifiers_are_refused(
    after: Callable[[Tensor], Tensor] | None, n_classes: int
) -> None:
    class Otherwise(Net):
        def forward(self, images: Tensor) -> Any:
            if after is not None:
                return after(super().forward(images))
            features = self.features(images)  # a second way from the features to the scores
            return self.fc(features.mean((2, 3))) + features.amax((2, 3)).sum(1, keepdim=True)

    if n_classes == 1 and after is not None and float(after(torch.ones(1, 1))) > 0:
        return  # one score has no other order
    with refused(WeightsError, "another way too", "another order or sign"):
        CAM(Otherwise(n_classes))(IMAGES, TAGS[:, :n_classes])


@pytest.mark.parametrize(
    "wrap", [lambda y: (y, y[:, :1]), lambda y: {"logits": y}, torch.sigmoid, lambda y: y.softmax(1), lambda y: 9 * y]
)
def test_scores_come_in_many_forms(wrap: Callable[[Tensor], Any]) -> None:
    class Wrapped(Net):
        def forward(self, images: Tensor) -> Any:
            return wrap(super().forward(images))

    assert same(CAM(Wrapped())(IMAGES, TAGS), CAM(Net())(IMAGES, TAGS))


@pytest.mark.parametrize(
    ("wrap", "kind", "text"),
    [
        (lambda y: y * torch.nan, WeightsError, "class scores are NaN or infinite"),
        (lambda y: y.argmax(1), ConfigError, "the model gives torch.int64 … expected class scores"),
        (lambda _: "cat", ConfigError, "the model gives str … expected class scores"),
        (lambda _: None, ConfigError, "the model gives NoneType"),
    ],
)
def test_what_is_no_scores_is_named(wrap: Callable[[Tensor], Any], kind: type[Tag2MaskError], text: str) -> None:
    class Wrapped(Net):
        def forward(self, images: Tensor) -> Any:
            return wrap(super().forward(images))

    with refused(kind, text):
        CAM(Wrapped())(IMAGES, TAGS)


def test_images_too_small_for_the_network_are_refused() -> None:
    model = timm.create_model("test_resnet", pretrained=False, num_classes=3).eval()
    for method in (lambda x: CAM(model)(x, TAGS), lambda x: feature_layer(model, x)):
        with refused(DataError, "32 x 32 pixels", "too small", "to 64 x 64", "leaves 2 x 2"):
            method(torch.rand(2, 3, 32, 32))
    cam = CAM(model)
    cam(torch.rand(2, 3, 64, 64), TAGS)
    for later in (cam, CAM(model, "layer4")):
        with refused(DataError, "layer 'layer4'", "a single cell", "Resize them"):
            later(torch.rand(2, 3, 32, 32), TAGS)


# --- weights by now -----------------------------------------------------------------------------------------------


def test_a_changed_model_gives_the_maps_of_what_it_is_now() -> None:
    model = Net()
    cam = CAM(model)
    before = cam(IMAGES, TAGS)
    model.fc = nn.Linear(6, 3)
    assert same(cam(IMAGES, TAGS), exact_maps(model, model.fc.weight))
    assert not same(cam(IMAGES, TAGS), before)
    model.load_state_dict(Net(seed=5).state_dict(), assign=True)
    assert same(cam(IMAGES, TAGS), CAM(Net(seed=5))(IMAGES, TAGS))
    model.last = nn.Sequential(nn.Conv2d(8, 6, 5, 2, 2), nn.ReLU())
    assert same(cam(IMAGES, TAGS), CAM(model)(IMAGES, TAGS))
    model.double()
    assert same(cam(IMAGES.double(), TAGS), CAM(model)(IMAGES.double(), TAGS))
    model.float()
    model.fc = nn.Linear(6, 5)
    with pytest.raises(DataError, match=r"\(2, 5\), got \(2, 3\)"):
        cam(IMAGES, TAGS)
    assert cam(IMAGES, torch.ones(2, 5))[0].maps.shape[0] == 5
    nn.init.constant_(model.fc.weight, torch.nan)
    with pytest.raises(WeightsError, match="classifier's weights are NaN or infinite"):
        cam(IMAGES, torch.ones(2, 5))


class LowRank(nn.Module):
    """A linear layer with a change of low rank beside it, as LoRA adds."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.down, self.up = (
            base,
            nn.Linear(base.in_features, 2, bias=False),
            nn.Linear(2, base.out_features),
        )

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, pooled: Tensor) -> Tensor:
        return self.base(pooled) + 0.05 * self.up(self.down(pooled))  # type: ignore[no-any-return]


def test_a_classifier_wrapped_later_is_read_as_it_answers() -> None:
    model = Net()
    cam = CAM(model)
    cam(IMAGES, TAGS)
    assert isinstance(model.fc, nn.Linear)
    model.fc = LowRank(model.fc)
    whole = model.fc.base.weight + 0.05 * model.fc.up.weight @ model.fc.down.weight
    assert same(cam(IMAGES, TAGS), exact_maps(model, whole), 1e-5)
    assert same(CAM(model)(IMAGES, TAGS), exact_maps(model, whole), 1e-5)
    nn.init.normal_(model.fc.up.weight)
    whole = model.fc.base.weight + 0.05 * model.fc.up.weight @ model.fc.down.weight
    assert same(cam(IMAGES, TAGS), exact_maps(model, whole), 1e-5)


def test_what_comes_between_later_is_refused() -> None:
    model = Net()
    cam = CAM(model)
    cam(IMAGES, TAGS)
    model.middle = nn.LayerNorm(6)
    with pytest.raises(WeightsError, match=r"lies between \('middle' \(LayerNorm\)\)"):
        cam(IMAGES, TAGS)


def test_a_model_is_looked_into_once(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    model = Net()
    forward = model.forward

    def counted(images: Tensor) -> Any:
        passes.append(len(images))
        return forward(images)

    model.forward = counted  # type: ignore[method-assign]
    cam = CAM(model)
    for _ in range(3):
        cam(IMAGES, TAGS)
    assert passes == [1, 2, 2, 2]


# --- precision, places, wrappers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_with_scales(dtype: torch.dtype) -> None:
    expected = CAM(Net(), scales=(1.0, 0.5, 2.0), mirror=True)(IMAGES, TAGS)
    found = CAM(Net().to(dtype), scales=(1.0, 0.5, 2.0), mirror=True)(IMAGES.to(dtype), TAGS)
    assert all(m.maps.dtype == torch.float32 for m in found)
    assert same(found, expected, 0.05)
    lpcam = LPCAM(Net().to(dtype), n_prototypes=2, scales=(1.0, 2.0)).fit([(IMAGES.to(dtype), TAGS)])
    assert all(bool(torch.isfinite(m.maps).all()) for m in lpcam(IMAGES.to(dtype), TAGS))


def test_wrong_types_and_devices_are_named() -> None:
    with pytest.raises(DataError, match=r"images are torch.float64.*torch.float32: images.to\(torch.float32\)"):
        CAM(Net())(IMAGES.double(), TAGS)
    with refused(DataError, "images are on", "device meta"):
        CAM(Net())(IMAGES.to("meta"), TAGS)
    with refused(WeightsError, "'stem.0.weight'", "device meta", "assign=True"):
        CAM(Net().to("meta"))
    with pytest.raises(DataError, match=r"got \(2, 3, 24, 32\) torch.uint8: images.float\(\) / 255"):
        CAM(Net())((IMAGES * 255).byte(), TAGS)
    with refused(DataError, "tags must be 0 or 1", "they hold 0.5"):
        CAM(Net())(IMAGES, TAGS * 0.5)
    with refused(DataError, "images (1, 1, 24, 32)", "1 channels", "first convolution takes 3"):
        CAM(Net())(IMAGES[:, :1], TAGS)
    with refused(WeightsError, "of type list", "expected a tensor (classes, channels)"):
        CAM(Net(), weights=[[0.0]])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="fit expects batches.*got int"):
        LPCAM(Net()).fit(5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="height = 0, width = 4: expected 1 or more"):
        CAM(Net())(IMAGES, TAGS)[0].resize(0, 4)
    lazy = Net()
    lazy.fc = nn.LazyLinear(3)
    with refused(WeightsError, "no weights yet", "'fc.weight'", "call it once"):
        CAM(lazy)
    with refused(ConfigError, "scales = 2.0", "one or more numbers above 0"):
        CAM(Net(), scales=2.0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="scales = .inf,. must be"):
        CAM(Net(), scales=(float("inf"),))


def test_modes_of_torch_around_a_call_change_nothing() -> None:
    expected = CAM(Net())(IMAGES, TAGS)
    with torch.inference_mode():
        made = Net()
        assert same(CAM(made)(IMAGES.clone(), TAGS), expected)
    assert same(CAM(made)(IMAGES, TAGS), expected)
    wanting = IMAGES.clone().requires_grad_()
    found = CAM(Net(), scales=(1.0, 0.5))(wanting, TAGS)
    assert not any(m.maps.requires_grad for m in found)
    assert same(CAM(Net())(IMAGES.to(memory_format=torch.channels_last), TAGS), expected, 1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = CAM(Net())(IMAGES, TAGS)
    assert same(half, expected, 0.05)
    assert half[0].maps.dtype == torch.float32


def test_wrappers_are_looked_inside() -> None:
    expected = CAM(Net())(IMAGES, TAGS)
    compiled = Net()
    compiled.compile(backend="eager")
    wrapped = nn.DataParallel(Net())
    for model in (wrapped, torch.compile(Net(), backend="eager"), compiled):
        assert same(CAM(model)(IMAGES, TAGS), expected)  # type: ignore[arg-type]
    assert same(CAM(wrapped, wrapped.module.last)(IMAGES, TAGS), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
def test_what_cannot_be_looked_into_is_named() -> None:
    with pytest.raises(ConfigError, match=r"TopLevelTracedModule of torch.jit.*pass the torch.nn.Module"):
        CAM(torch.jit.trace(Net().eval(), IMAGES))  # type: ignore[no-untyped-call]
    with refused(ConfigError, "of type str", "expected a torch.nn.Module"):
        CAM("resnet18")  # type: ignore[arg-type]


def test_a_scale_that_the_model_does_not_take_is_named() -> None:
    class OneSize(Net):
        def forward(self, images: Tensor) -> Any:
            if images.shape[2] != 24:
                raise AssertionError("expected 24 rows")
            return super().forward(images)

    model = OneSize().train()
    with refused(DataError, "20 x 32 pixels", "expected 24 rows", "Resize them"):
        CAM(model)(IMAGES[:, :, :20], TAGS)
    with refused(ConfigError, "scale 2,", "48 x 64 pixels", "expected 24 rows", "Give scales=(1.0,)"):
        CAM(model, scales=(1.0, 2.0))(IMAGES, TAGS)
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# --- prototypes of another network --------------------------------------------------------------------------------


def fitted(model: nn.Module) -> LPCAM:
    return LPCAM(model, n_prototypes=2).fit([(IMAGES, TAGS)])


def test_prototypes_go_with_their_network_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    first = fitted(Net())
    first.save(path)
    for model in (Net(), Net().double(), nn.DataParallel(Net()), Net().bfloat16()):
        again = LPCAM(model).load(path)
        again.save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    head = Net()
    head.fc = nn.Linear(6, 3)
    for other, text in (
        (Net(seed=1), "other features .layer 'last'"),
        (head, "other class weights on its features"),
        (Net(n_classes=4), "3 classes, this one has 4"),
        (timm.create_model("test_resnet", pretrained=False, num_classes=3), "(features|feature channels|small)"),
    ):
        with pytest.raises(Tag2MaskError, match=text):
            LPCAM(other).load(path)
    with refused(WeightsError, "p.safetensors", "another network", "fit them anew"):
        LPCAM(Net(seed=1)).load(path)


def test_a_failed_load_keeps_what_there_was(tmp_path: Path) -> None:
    fitted(Net(seed=1)).save(tmp_path / "p.safetensors")
    mine = fitted(Net())
    before = mine.prototypes
    with pytest.raises(WeightsError, match="of another network"):
        mine.load(tmp_path / "p.safetensors")
    assert mine.prototypes is before


def test_a_classifier_of_more_classes_does_not_use_the_old_prototypes() -> None:
    model = Net()
    lpcam = fitted(model)
    model.fc = nn.Linear(6, 4)
    with refused(WeightsError, "3 classes", "has 4 now"):
        lpcam(IMAGES, torch.ones(2, 4))


def test_older_files_count_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prototypes: Prototypes = fitted(Net()).prototypes
    save_prototypes(tmp_path / "old", prototypes)
    with caplog.at_level("WARNING", logger="tag2mask"):
        old = LPCAM(Net()).load(tmp_path / "old")
    assert "does not say which network its prototypes are of" in caplog.text
    assert same(old(IMAGES, TAGS), fitted(Net())(IMAGES, TAGS))


# --- AMN ----------------------------------------------------------------------------------------------------------


def test_amn_trains_whatever_is_around_it_and_leaves_the_images_alone() -> None:
    seeds = torch.zeros(2, 24, 32, dtype=torch.int64)
    seeds[0, :, 16:], seeds[1, :, 16:] = 2, 1
    expected = AMN(Net(), epochs=1).fit([(IMAGES, TAGS, seeds)])(IMAGES, TAGS)
    with torch.inference_mode():
        inside = AMN(Net(), epochs=1).fit([(IMAGES.clone(), TAGS, seeds)])
        assert same(inside(IMAGES.clone(), TAGS), expected, 1e-5)
    wanting = IMAGES.clone().requires_grad_()
    assert same(AMN(Net(), epochs=1).fit([(wanting, TAGS, seeds)])(IMAGES, TAGS), expected)
    assert wanting.grad is None
    model = copy.deepcopy(Net()).bfloat16()
    found = AMN(model, epochs=1, scales=(1.0, 2.0)).fit([(IMAGES.bfloat16(), TAGS, seeds)])
    assert found(IMAGES.bfloat16(), TAGS)[0].maps.dtype == torch.float32
