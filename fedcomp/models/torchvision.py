"""Any classification or segmentation net of torchvision, by torchvision's own name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedcomp.errors import ConfigError, UnknownNameError
from fedcomp.models.base import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

_REFUSED = {
    "detection": "finds boxes, which no data set here has as targets",
    "optical_flow": "takes pairs of images",
    "quantization": "holds integers, which cannot be trained",
    "video": "takes clips of several images",
}
"""Packages of torchvision.models whose nets do not fit, and why."""

_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.", "aux_classifier.")


@dataclass(frozen=True)
class Torchvision(ModelSettings):
    """A net of torchvision with a head for the data set's classes and torchvision's own start.

    Auxiliary heads are left out: nobody trains them here, and they would be sent all the same.
    """

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module; a forward pass without data tells whether the inputs fit."""
        from torchvision.models import get_model

        if len(input_shape) != 3 or input_shape[0] != 3:
            msg = (
                f"model={self.name} takes images with 3 channels, the data set's inputs have the"
                f" shape {input_shape}: choose dataset.channels=3 or another model"
            )
            raise ConfigError(msg)
        try:
            options = self._options(*input_shape[1:])
            module: nn.Module = get_model(self.name, weights=None, num_classes=outputs, **options)
            _try(module, input_shape)
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            msg = (
                f"model={self.name} cannot take the data set's inputs of the shape {input_shape}"
                f" ({reason}): choose larger images, 224 x 224 as a rule, or another model"
            )
            raise ConfigError(msg) from error
        if _package(self.name) == "segmentation":
            module.register_forward_hook(_pixels)
        return module

    def published(self) -> dict[str, Tensor]:
        """Return torchvision's default weights, from its cache or its site."""
        import torch
        from torchvision.models import get_model, get_model_weights

        default = getattr(get_model_weights(self.name), "DEFAULT", None)
        if default is None:
            return super().published()
        file = Path(torch.hub.get_dir(), "checkpoints", Path(default.url).name)
        try:
            state = get_model(self.name, weights=default, progress=False).state_dict()
        except Exception as error:  # no connection, or bytes that torch.load stumbles over
            source = f"model.pretrained=true: the weights of {self.name}"
            if file.exists():
                msg = f"{source} in {file} cannot be read ({error}): delete the file"
            else:
                msg = (
                    f"{source} are not on this machine and cannot be fetched ({error}): connect it"
                    f" once, put {file.name} in {file.parent}, or choose model.weights=<file>"
                )
            raise ConfigError(msg) from error
        return {name: value for name, value in state.items() if not name.startswith(_AUXILIARY)}

    def _options(self, height: int, width: int) -> dict[str, Any]:
        """Return what the constructor has to be told beside the number of classes."""
        if self.name in ("googlenet", "inception_v3"):
            # published weights expect inputs in [-1, 1], to which the net then transforms
            start = {"init_weights": True, "transform_input": self.pretrained}
            return {"aux_logits": False, **start}
        if self.name.startswith("vit_"):
            return {"image_size": height}
        if self.name.startswith("maxvit_"):
            return {"input_size": (height, width)}
        return {"weights_backbone": None} if _package(self.name) == "segmentation" else {}


@dataclass(frozen=True)
class ResNet18(Torchvision):
    """He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385."""

    name: ClassVar[str] = "resnet18"


@dataclass(frozen=True)
class ResNet34(Torchvision):
    """He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385."""

    name: ClassVar[str] = "resnet34"


@dataclass(frozen=True)
class ResNet50(Torchvision):
    """He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385."""

    name: ClassVar[str] = "resnet50"


@dataclass(frozen=True)
class MobileNetV2(Torchvision):
    """Sandler et al., Inverted Residuals and Linear Bottlenecks, CVPR 2018, arXiv:1801.04381."""

    name: ClassVar[str] = "mobilenet_v2"


@dataclass(frozen=True)
class VGG16(Torchvision):
    """Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015, arXiv:1409.1556."""

    name: ClassVar[str] = "vgg16"


def architecture(name: str, registered: Iterable[str]) -> type[Torchvision]:
    """Return the settings class of an architecture that torchvision knows."""
    from torchvision.models import list_models

    known = list_models()
    if name not in known:
        fitting = [other for other in known if _package(other) not in _REFUSED]
        raise UnknownNameError("model", name, {*registered, *fitting})
    if reason := _REFUSED.get(_package(name)):
        msg = f"{reason}: choose a net for classification or segmentation"
        raise ConfigError(f"torchvision's {name} {msg}")
    return _settings(name)


@cache
def _settings(architecture: str) -> type[Torchvision]:
    @dataclass(frozen=True)
    class Architecture(Torchvision):
        name: ClassVar[str] = architecture

    return Architecture


def _package(name: str) -> str:
    """Return which part of torchvision.models defines an architecture."""
    from torchvision.models import get_model_builder

    return str(get_model_builder(name).__module__.split(".")[2])


def _try(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Let a module compute the shapes of all its features for one input, and nothing else."""
    import torch

    held = (*module.named_parameters(), *module.named_buffers())
    shapes = {name: torch.empty_like(value, device="meta") for name, value in held}
    with torch.no_grad():
        inputs = torch.empty(1, *input_shape, device="meta")
        torch.func.functional_call(module.eval(), shapes, (inputs,))
    module.train()


def _pixels(module: nn.Module, inputs: object, outputs: dict[str, Tensor]) -> Tensor:  # noqa: ARG001
    """Return the logits of every pixel: as a hook it leaves the names in the state dict alone."""
    return outputs["out"]
