"""Networks of segmentation-models-pytorch on timm's encoders, whose first weights are loaded tensor by tensor."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from tag2mask.backbones.settings import BUNDLED, bundled_file, local_file
from tag2mask.backbones.state_dict import check_strict, in_order, load_strict, read_state, without
from tag2mask.backbones.tagnet import RGB
from tag2mask.backbones.timm_body import timm_name, timm_state
from tag2mask.core.errors import ConfigError, WeightsError, unknown
from tag2mask.core.files import reason
from tag2mask.segmentation.networks.base import Segmenter
from tag2mask.segmentation.settings import CAFFE, NetworkSettings


def encoder_name(name: str) -> str:
    """Name of an encoder in timm."""
    return timm_name(name, "network.encoder", "encoder", CAFFE)


def encoder_colours(name: str) -> tuple[RGB, RGB]:
    """Mean and standard deviation of R, G, B in [0, 1] that timm's network of that name was trained with."""
    about = published(name)
    mean, std = about.mean, about.std
    return (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))


def published(name: str) -> Any:
    """What timm knows of a network: colours, size, name of its classifier. Its own type is not exported."""
    return timm.get_pretrained_cfg(name, allow_unregistered=True)


def check_bundled(settings: NetworkSettings) -> None:
    """Refuse bundled weights for a network that has none."""
    if settings.weights == "bundled" and settings.encoder != BUNDLED:
        raise WeightsError(
            f"network.weights = 'bundled': there are bundled weights for {BUNDLED} only, not for "
            f"'{settings.encoder}'. Give a local file (network.weights=FILE.pth), weights=timm (downloads), or "
            f"weights=none (random)"
        )


def check_file(settings: NetworkSettings) -> None:
    """Refuse a weight file of another network than timm's encoder, by its names and shapes."""
    path = local_file(settings.weights)
    try:
        with torch.device("meta"):  # no memory, and nothing is drawn
            net: Any = timm.create_model(encoder_name(settings.encoder), pretrained=False, num_classes=0)
    except (RuntimeError, NotImplementedError):  # a network that computes while it is built: training will look
        return
    check_strict(net, _headless(path, net), str(path), f"'{settings.encoder}'")


def load_encoder(features: nn.Module, settings: NetworkSettings) -> None:
    """Load the first weights into timm's network built with ``features_only``, as it gives features of every level."""
    if settings.weights == "none":
        return
    name = encoder_name(settings.encoder)
    state, source = _whole_state(name, settings)
    own = list(features.state_dict())
    by_name = {_plain(key): value for key, value in state.items()}
    found = {key: by_name[_plain(key)] for key in own if _plain(key) in by_name}
    load_strict(features, found, source, f"the encoder '{settings.encoder}'")


def _whole_state(name: str, settings: NetworkSettings) -> tuple[dict[str, Tensor], str]:
    """Weights of the whole network, head apart, under timm's names, and where they are from."""
    if settings.weights == "timm":
        return timm_state(name), f"timm's {name}"
    net: Any = timm.create_model(name, pretrained=False, num_classes=0)
    if settings.weights == "bundled":
        check_bundled(settings)
        path = bundled_file()
        state = in_order(read_state(path), list(net.state_dict()), str(path))
    else:
        path = local_file(settings.weights)
        state = _headless(path, net)
    load_strict(net, state, str(path), f"'{settings.encoder}'")
    return dict(net.state_dict()), str(path)


def _headless(path: Path, net: Any) -> dict[str, Tensor]:
    """The tensors of a file without those of the classifier, as timm names it for the network."""
    head = net.pretrained_cfg.get("classifier") or ()
    names = (head,) if isinstance(head, str) else tuple(head)
    return without(read_state(path), [f"{n}." for n in names])


def _plain(name: str) -> str:
    """A tensor's name without what distinguishes timm's ways of giving features: flattened stages, a wrapper."""
    return name.removeprefix("model.").replace(".", "_")


_DECODER_OPTIONS = ("decoder_", "psp_")
"""What the library's names of settings of a decoder begin with."""
_TRIED = 256
"""Side of the image that a decoder is tried with: enough for those that halve it eight times."""
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"strict_img_size": False, "always_partition": True},  # Swin; else its last stage, 7 x 7 at 224, has no shift
    {"strict_img_size": False},
    {"dynamic_img_size": True},
)
"""What timm's networks of one size take, in their different ways."""
_LEAST = {"pan": 128}
"""Smallest sides of an architecture in pixels: PAN halves its features at stride 16 three times."""


class LibrarySegmenter(Segmenter):
    """A network of segmentation-models-pytorch, its logits at the images' size."""

    def __init__(self, settings: NetworkSettings, n_labels: int) -> None:
        name = encoder_name(settings.encoder)
        super().__init__(settings, n_labels, *encoder_colours(name))
        self.least = _LEAST.get(settings.kind, 1)
        self.net = library_network(settings, name, n_labels)
        load_encoder(self.net.encoder.model, settings)

    @property
    def encoder(self) -> nn.Module:
        """The network of timm's."""
        part: nn.Module = self.net.encoder
        return part

    def parts(self) -> list[nn.Module]:
        """Decoder and head."""
        return [self.net.decoder, self.net.segmentation_head]

    def logits(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W), sides multiples of 32, to logits (N, C + 1, H, W)."""
        result: Tensor = self.net(images)
        return result


def library_network(settings: NetworkSettings, name: str, n_labels: int, **options: Any) -> Any:
    """A network of the library on timm's encoder ``name``, with random weights; the library has no static types.

    ``options`` of the architecture come beside those of the settings.
    """
    takes = inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[settings.kind].__init__).parameters
    known = [option for option in takes if option.startswith(_DECODER_OPTIONS)]
    for option in settings.decoder:
        if option not in known:  # the library would hand it on to timm
            raise ConfigError(unknown(f"setting of {settings.kind}'s decoder", option, known))
    options = {**settings.decoder, **options}
    if settings.drop_path is not None:
        options["drop_path_rate"] = settings.drop_path
    if published(name).fixed_input_size:
        options |= _any_size(name)
    try:
        return smp.create_model(settings.kind, f"tu-{name}", encoder_weights=None, classes=n_labels, **options)
    except Exception as error:  # the two libraries raise whatever they run into
        raise ConfigError(
            f"network.kind = '{settings.kind}' cannot stand on network.encoder = '{settings.encoder}' ({error}). "
            f"Choose a convolutional encoder, such as efficientnet_lite0 or resnet50"
            + (", or leave network.decoder out" if settings.decoder else "")
        ) from error


def check_decoder(settings: NetworkSettings) -> None:
    """Refuse settings that the decoder cannot be built or run with, tried by a network without memory."""
    if not settings.decoder:
        return
    name = encoder_name(settings.encoder)
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
            library_network(settings, name, 2).eval()(torch.zeros(1, 3, _TRIED, _TRIED))
    except ConfigError:
        raise
    except Exception as error:  # as above
        if "meta" in str(error).lower():  # it computes with numbers, which are not there: training will look
            return
        raise ConfigError(
            f"network.decoder = {settings.decoder}: the decoder of '{settings.kind}' does not run with it "
            f"({reason(error)}). Change it, or leave it out"
        ) from error


def _any_size(name: str) -> dict[str, Any]:
    """Arguments that make a network of timm's, published for one size, take all; none where it has no such."""
    for options in _ANY_SIZE:
        try:
            with torch.device("meta"):
                timm.create_model(name, features_only=True, **options)
        except Exception:  # as above
            continue
        return options
    return {}
