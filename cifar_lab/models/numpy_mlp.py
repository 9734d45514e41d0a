"""The NumPy MLP of the report (system 1), trained by Lightning without autograd.

Forward pass, backward pass and the SGD step are those of ``cifar_lab.numpy_reference``. Lightning
counts steps only through an optimizer that it knows, so an adapter makes the NumPy SGD a torch
optimizer; and the NumPy arrays are the memory of torch parameters, so that checkpoints hold them.

Softmax and cross entropy are one step here (``SoftmaxCrossEntropy``), in float32; the report's two
modules, which give the same gradient in exact arithmetic, are in ``cifar_lab.course``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from torch import Tensor, nn

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.data.loader import Batch
from cifar_lab.errors import UserError
from cifar_lab.models.classifier import ImageClassifier
from cifar_lab.models.mlp import REPORT_STD, check_units
from cifar_lab.numpy_reference.cross_entropy import SoftmaxCrossEntropy
from cifar_lab.numpy_reference.network import MLP
from cifar_lab.numpy_reference.optimizer import SGD


class NumpyNetwork(nn.Module):
    """The NumPy MLP, with torch parameters that share the memory of its arrays.

    Args:
        hidden_units: units of each hidden layer, each above 0.
        num_classes: of the output.
    """

    def __init__(self, hidden_units: Sequence[int], num_classes: int) -> None:
        super().__init__()
        # The seed comes from torch's generator, so that seed_everything governs this too.
        self.reference = MLP(
            prod(IMAGE_SHAPE),
            check_units(hidden_units),
            num_classes,
            std=REPORT_STD,
            rng=int(torch.randint(2**31, ())),
            dtype="float32",
        )
        for position, layer in self.reference:
            linear = nn.Module()
            for name, array in layer.params.items():
                parameter = nn.Parameter(torch.from_numpy(array), requires_grad=False)
                linear.register_parameter(name, parameter)
            self.add_module(f"linear{position}", linear)

    def forward(self, images: Tensor) -> Tensor:
        """Maps float32 images (B, 3, 32, 32) to logits (B, num_classes)."""
        self.share_memory_with_reference()
        return torch.from_numpy(self.reference.forward(images.flatten(1).numpy()))

    def share_memory_with_reference(self) -> None:
        """Makes NumPy see the parameters' present memory; a copy of the module has its own."""
        for position, layer in self.reference:
            for name, parameter in self.get_submodule(f"linear{position}").named_parameters():
                layer.params[name] = parameter.detach().numpy()


class NumpySGD(torch.optim.Optimizer):
    """A torch optimizer whose step is NumPy's.

    Args:
        network: whose parameters are updated, in place.
        lr: learning rate.
    """

    def __init__(self, network: NumpyNetwork, lr: float) -> None:
        super().__init__(network.parameters(), {"lr": lr})
        self._sgd = SGD(network.reference, lr)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the parameters from the gradients of the last backward pass."""
        result = closure() if closure is not None else None
        self._sgd.lr = self.param_groups[0]["lr"]
        self._sgd.step()
        return result


class NumpyMLP(ImageClassifier):
    """The report's NumPy MLP as a LightningModule; settings as in NumpyNetwork."""

    cpu_only = True

    def __init__(
        self,
        hidden_units: Sequence[int] = (100,),
        normalization: str = "mean_image",
        lr: float = 2e-3,
        num_classes: int = 10,
    ) -> None:
        network = NumpyNetwork(hidden_units, num_classes)
        super().__init__(
            network, num_classes=num_classes, normalization=normalization, optimizer="sgd", lr=lr
        )
        self.numpy_network = network.reference
        self.criterion = SoftmaxCrossEntropy()
        self.automatic_optimization = False
        self.save_hyperparameters()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step of SGD, in NumPy from the pixels' floats to the new weights."""
        images, labels = batch
        logits = self(images)
        loss = torch.tensor(self.criterion.forward(logits.numpy(), labels.numpy()))
        self.numpy_network.backward(self.criterion.backward())
        self.optimizers().step()
        self.meter.update(loss, logits, labels)
        return loss

    def gradients(self) -> dict[str, Tensor]:
        """The gradients of the last backward pass, by the names of the network's parameters."""
        return {
            f"linear{position}.{name}": torch.from_numpy(array)
            for position, layer in self.numpy_network
            for name, array in layer.grads.items()
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Gives the NumPy SGD."""
        return NumpySGD(self.network, self.lr)  # type: ignore[arg-type]

    def check_trainer(self, trainer: Trainer) -> None:
        """Refuses what makes no sense outside torch.

        Raises:
            UserError: a GPU, several devices, mixed precision, clipping or accumulation.
        """
        refused = {
            "accelerator": not isinstance(trainer.accelerator, CPUAccelerator),
            "devices": trainer.world_size > 1,
            "precision": trainer.precision != "32-true",
            "gradient_clip_val": bool(trainer.gradient_clip_val),
            "accumulate_grad_batches": trainer.accumulate_grad_batches > 1,
        }
        for flag, wrong in refused.items():
            if wrong:
                raise UserError(
                    f"numpy_mlp computes in NumPy: one CPU process, float32, no {flag} other than "
                    "the default"
                )
