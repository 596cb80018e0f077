"""The ResNet-50 of IRN, LPCAM and AMN: strides (2, 2, 2, 1) without dilation, early stages untrained."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet50

from tag2mask.backbones.settings import BackboneSettings
from tag2mask.backbones.tagnet import RGB, Body
from tag2mask.core.errors import ConfigError

NAME = "resnet50_irn"
STRIDE = 16
CHANNELS = 2048
MEAN: RGB = (0.485, 0.456, 0.406)
STD: RGB = (0.229, 0.224, 0.225)
PUBLISHED_DETACH = 2


class ResNet50Irn(nn.Module):
    """torchvision's ResNet-50 whose last stage keeps the resolution, its kernels not dilated.

    Parameters have torchvision's names. The first convolution and its batch norm are never trained.

    Args:
        detach_after: stage (1 to 4) whose output is detached, so that nothing up to it is trained; 0 for none.
    """

    def __init__(self, detach_after: int = PUBLISHED_DETACH) -> None:
        super().__init__()
        net = resnet50(weights=None)
        self.detach_after = detach_after
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        first = self.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (1, 1)
        # Without a gradient to come, an optimiser or a reducer of several processes must not wait for one.
        for module in (self.conv1, self.bn1, *self.stages()[:detach_after]):
            module.requires_grad_(False)

    def stages(self) -> tuple[nn.Module, ...]:
        """The four stages of residual blocks."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to non-negative features (N, 2048, ceil(H/16), ceil(W/16))."""
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number, stage in enumerate(self.stages(), start=1):
            x = stage(x)
            if number == self.detach_after:
                x = x.detach()
        return x


def irn_body(settings: BackboneSettings) -> Body:
    """Build the published ResNet-50, with random weights.

    Raises:
        ConfigError: a stride other than 16 is asked for.
    """
    if settings.stride not in (None, STRIDE):
        raise ConfigError(f"backbone.stride = {settings.stride}: {NAME} has stride {STRIDE} only; leave stride out")
    detach = PUBLISHED_DETACH if settings.detach_after is None else settings.detach_after
    return Body(ResNet50Irn(detach), CHANNELS, STRIDE, MEAN, STD)
