"""Model families by name, and every architecture of torchvision by its own."""

from __future__ import annotations

from fedcomp.models.base import ModelSettings
from fedcomp.registry import Registry


class _Models(Registry[type[ModelSettings]]):
    """The registered families; torchvision is asked for the names that are none of them."""

    def get(self, name: str) -> type[ModelSettings]:
        """Return the settings class of that name."""
        if name in self.names():
            return super().get(name)
        from fedcomp.models.torchvision import architecture

        return architecture(name, self.names())


MODELS = _Models(
    "model",
    {
        "alexnet_cifar": "fedcomp.models.alexnet_cifar:AlexNetCifar",
        "cossgd_cnn": "fedcomp.models.cossgd_cnn:CosSGDCNN",
        "ds_cnn": "fedcomp.models.ds_cnn:DSCNN",
        "lenet5": "fedcomp.models.lenet5:LeNet5",
        "mlp": "fedcomp.models.mlp:MLP",
        "mobilenet_v2": "fedcomp.models.torchvision:MobileNetV2",
        "resnet18": "fedcomp.models.torchvision:ResNet18",
        "resnet18_cifar": "fedcomp.models.resnet_stem:ResNet18Cifar",
        "resnet20": "fedcomp.models.resnet_cifar:ResNet20",
        "resnet34": "fedcomp.models.torchvision:ResNet34",
        "resnet50": "fedcomp.models.torchvision:ResNet50",
        "resnet50_cifar": "fedcomp.models.resnet_stem:ResNet50Cifar",
        "resnet56": "fedcomp.models.resnet_cifar:ResNet56",
        "small_cnn": "fedcomp.models.small_cnn:SmallCNN",
        "small_unet": "fedcomp.models.small_unet:SmallUNet",
        "vgg11_cifar": "fedcomp.models.vgg:VGG11Cifar",
        "vgg11s": "fedcomp.models.vgg:VGG11s",
        "vgg16": "fedcomp.models.torchvision:VGG16",
        "vgg16_cifar": "fedcomp.models.vgg:VGG16Cifar",
    },
)

__all__ = ["MODELS", "ModelSettings"]
