"""CAM: equal to torchcam before normalisation, any network, nothing left on the model, clear errors."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from tag2mask.backbones.feature_layer import examine
from tag2mask.backbones.hooks import evaluating, resolve_layer
from tag2mask.core.errors import ConfigError, DataError, WeightsError
from tag2mask.inference.multiscale import CAMHead, activation
from tag2mask.methods.activation_maps import CAM
from tests.helpers.refused import refused


class Small(nn.Module):
    """Two convolutions, pooling, and a linear layer or 1 x 1 convolution."""

    def __init__(self, classes: int = 4, pointwise: bool = False, middle: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            OrderedDict(
                first=nn.Conv2d(3, 8, 3, 2, 1), norm=nn.BatchNorm2d(8), relu=nn.ReLU(), last=nn.Conv2d(8, 6, 3, 2, 1)
            )
        )
        self.middle = middle or nn.Identity()
        self.pointwise = pointwise
        self.head: nn.Module = nn.Conv2d(6, classes, 1, bias=False) if pointwise else nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        pooled = self.middle(features.mean((2, 3)))
        logits: Tensor = self.head(pooled[:, :, None, None] if self.pointwise else pooled)
        return logits.flatten(1)

    def matrix(self) -> Tensor:
        """The head's weights, (classes, 6)."""
        return next(self.head.parameters()).detach().flatten(1)


IMAGES = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(7))
TAGS = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]])


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_activation_equals_torchcam_before_normalisation() -> None:
    torchcam = pytest.importorskip("torchcam.methods")
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.resnet18(weights=None, num_classes=7).eval()
    images = torch.randn(1, 3, 96, 128)
    with torchcam.CAM(model, target_layer="layer4", fc_layer="fc") as extractor, torch.no_grad():
        scores = model(images)
        expected = torch.cat([extractor(c, scores, normalized=False)[0] for c in range(7)])
    anatomy = examine(model, images, None, None)
    features = anatomy.features(model, images)
    assert features is not None
    ours = activation(anatomy.weights, features)[0]
    assert anatomy.name == "layer4"
    # torchcam applies the ReLU itself, whether normalised or not
    torch.testing.assert_close(ours.relu(), expected.relu(), atol=1e-5, rtol=1e-4)
    assert ours.abs().max() > 0.1


def test_maps_equal_eq_1_in_float64() -> None:
    model = Small().eval()
    nn.init.normal_(next(model.head.parameters()))
    found = CAM(model)(IMAGES, TAGS)
    with torch.no_grad():
        features = model.body(IMAGES).double()
    for maps, row, f in zip(found, TAGS, features, strict=True):
        assert maps.classes == tuple(row.nonzero()[:, 0].tolist())
        for c, ours in zip(maps.classes, maps.maps, strict=True):
            planes = [w * plane for w, plane in zip(model.matrix()[c].double(), f, strict=True)]
            expected = torch.stack(planes).sum(0).clamp_min(0)
            torch.testing.assert_close(ours.double(), expected / expected.max(), atol=1e-5, rtol=0)
    assert found[0].resize(24, 32).maps.shape == (2, 24, 32)


def test_weights_and_layer_given_equal_those_found() -> None:
    model = Small()
    automatic = CAM(model)(IMAGES, TAGS)
    for layer in ("body.last", "body", model.body, model.body[3]):
        given = CAM(model, layer, weights=model.matrix())(IMAGES, TAGS)
        assert all(torch.equal(a.maps, b.maps) for a, b in zip(automatic, given, strict=True))
    other = CAM(model, weights=-model.matrix())(IMAGES, TAGS)
    assert not torch.equal(other[0].maps, automatic[0].maps)


def test_a_pointwise_convolution_is_a_classifier_too() -> None:
    model = Small(pointwise=True)
    anatomy = examine(model, IMAGES, None, None)
    assert torch.equal(anatomy.weights, model.matrix())
    assert anatomy.name == "body"


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("densenet121", "features"),
        ("mobilenet_v3_small", None),
        ("shufflenet_v2_x0_5", "conv5"),
    ],
)
def test_torchvision_networks(name: str, layer: str | None) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.get_model(name, weights=None, num_classes=4)
    images = torch.rand(1, 3, 64, 64)
    if layer is None:  # two linear layers with an activation between
        with refused(WeightsError, "not one linear layer", "pooled features"):
            CAM(model)(images, TAGS[:1])
        return
    cam = CAM(model)
    assert cam(images, TAGS[:1])[0].maps.shape == (2, 2, 2)
    assert examine(model, images, None, None).name == layer


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_mambaout", "test_convnext"])
def test_timm_networks_work_or_say_why(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=4)
    if name in {"test_efficientnet", "test_resnet"}:
        found = CAM(model, scales=(1.0, 0.5), mirror=True)(torch.rand(2, 3, 128, 128), TAGS)
        assert found[0].maps.shape == (2, 4, 4)
        return
    nn.init.normal_(model.get_classifier().weight)  # its own initial weights are so small that nothing can differ
    text = {"test_mambaout": "channels that come last", "test_convnext": "lies between .'head.norm' .LayerNorm2d."}
    with pytest.raises((WeightsError, ConfigError), match=text[name]):
        CAM(model)(torch.rand(2, 3, 128, 128), TAGS)


def test_a_norm_between_pooling_and_classifier_is_refused_unless_weights_are_given() -> None:
    model = Small(middle=nn.LayerNorm(6))
    with refused(WeightsError, "not 'head' applied", "layer 'body'"):
        CAM(model)(IMAGES, TAGS)
    assert CAM(model, weights=model.matrix())(IMAGES, TAGS)[0].maps.shape == (2, 6, 8)


def test_scales_mirror_and_symmetry() -> None:
    cam = CAM(Small(), scales=(1.0, 0.5, 1.5), mirror=True)
    straight, mirrored = cam(IMAGES, TAGS), cam(IMAGES.flip(-1), TAGS)
    for a, b in zip(straight, mirrored, strict=True):
        assert a.maps.shape[1:] == (6, 8)
        torch.testing.assert_close(a.maps, b.maps.flip(-1), atol=1e-5, rtol=0)
    once, twice = CAM(Small(), scales=(1.0,))(IMAGES, TAGS), CAM(Small(), scales=(1.0, 1.0))(IMAGES, TAGS)
    torch.testing.assert_close(once[0].maps, twice[0].maps)


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    cam = CAM(Small(), scales=(1.0, 2.0), mirror=True)
    together = cam(IMAGES, TAGS)
    for i in range(2):
        (alone,) = cam(IMAGES[i : i + 1], TAGS[i : i + 1])
        torch.testing.assert_close(alone.maps, together[i].maps, atol=1e-5, rtol=0)


def test_permuting_the_classes_permutes_the_maps() -> None:
    model, order = Small(), torch.tensor([2, 3, 1, 0])
    every = torch.ones(1, 4)
    straight = CAM(model)(IMAGES[:1], every)[0].maps
    permuted = CAM(model, weights=model.matrix()[order])(IMAGES[:1], every)[0].maps
    assert torch.equal(permuted, straight[order])


def test_an_image_without_tags_gives_no_maps() -> None:
    (first, second) = CAM(Small())(IMAGES, torch.tensor([[0, 0, 0, 0], [0, 0, 1, 0]]))
    assert first.classes == ()
    assert first.maps.shape == (0, 6, 8)
    assert second.classes == (2,)


def test_nothing_is_left_on_the_model_even_after_an_error() -> None:
    model = Small()
    model.body.eval()
    before = [module.training for module in model.modules()]
    with CAM(model) as cam:
        cam(IMAGES, TAGS)
        model.body.last = nn.Conv2d(5, 6, 3)  # its input has 8 channels now
        before_error = [module.training for module in model.modules()]
        with pytest.raises(RuntimeError):
            cam(IMAGES, TAGS)
    assert before_error == [module.training for module in model.modules()]
    assert hooks(model) == 0
    assert before.count(True) == 3
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_evaluating_reaches_children_whose_parent_overrides_train() -> None:
    class Stubborn(Small):
        def train(self, mode: bool = True) -> Stubborn:
            return self

    model = Stubborn()
    with evaluating(model):
        assert not model.body.get_submodule("norm").training
    assert model.body.get_submodule("norm").training


def test_batch_statistics_do_not_move() -> None:
    model = Small()
    CAM(model)(IMAGES, TAGS)
    assert model.body.get_buffer("norm.running_mean").abs().sum() == 0


def test_the_layer_found_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="tag2mask"):
        CAM(Small())(IMAGES, TAGS)
    assert "CAM reads layer 'body' with the weights of 'head'" in caplog.text


def test_wrong_layers_are_refused() -> None:
    model = Small()
    with pytest.raises(ConfigError, match="unknown layer 'body.lats'; did you mean 'body.last'?"):
        CAM(model, "body.lats")
    with refused(ConfigError, "layer Linear", "not part of the model"):
        CAM(model, nn.Linear(1, 1))
    with refused(ConfigError, "layer 'head' gives (1, 4)", "expected a feature map"):
        CAM(model, "head")(IMAGES, TAGS)
    model.unused = nn.Conv2d(3, 3, 1)
    with pytest.raises(ConfigError, match="forward pass; choose a layer"):
        CAM(model, "unused")(IMAGES, TAGS)
    with pytest.raises(ConfigError, match="unknown layer ''"):
        resolve_layer(model, "")


def test_a_model_without_maps_or_classifier_is_refused() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 32, 4))
    with refused(ConfigError, "no module", "gives a feature map"):
        CAM(flat)(IMAGES, TAGS)
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with refused(WeightsError, "linear layer or 1 x 1 convolution", "after layer '0'"):
        CAM(pooled)(IMAGES, TAGS)


def test_wrong_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"weights have shape \(4, 5\), expected \(classes, 6\)"):
        CAM(Small(), weights=torch.rand(4, 5))(IMAGES, TAGS)
    with pytest.raises(WeightsError, match="classifier's weights are NaN or infinite"):
        CAM(Small(), weights=torch.full((4, 6), torch.nan))(IMAGES, TAGS)
    with refused(WeightsError, "5 channels", "the features 6"):
        CAMHead(torch.rand(4, 5))(torch.rand(1, 6, 2, 2), torch.tensor([0]))


@pytest.mark.parametrize(
    ("images", "tags", "text"),
    [
        (IMAGES[0], TAGS, "(N, 3, H, W) … N of 1 or more … got (3, 24, 32)"),
        ((IMAGES * 255).byte(), TAGS, "got … torch.uint8"),
        (IMAGES[:0], TAGS[:0], "N of 1 or more, got (0, 3, 24, 32)"),
        (IMAGES, TAGS[:1], "tags must be … (images, classes) = (2, 4) … got (1, 4)"),
        (IMAGES, TAGS[:, :3], "= (2, 4), got (2, 3)"),
        (IMAGES, TAGS * 2, "tags must be 0 or 1 everywhere"),
        (torch.stack([IMAGES[0], IMAGES[1] / 0]), TAGS, "images [1] … NaN or infinite"),
    ],
)
def test_wrong_input_is_refused(images: Tensor, tags: Tensor, text: str) -> None:
    with refused(DataError, text):
        CAM(Small())(images, tags)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0), (float("nan"),)])
def test_wrong_scales_are_refused(scales: tuple[float, ...]) -> None:
    with refused(ConfigError, "one or more numbers above 0"):
        CAM(Small(), scales=scales)
