"""The NumPy MLP of the report (system 1), trained by Lightning without autograd.

The forward pass, the backward pass and the SGD step are those of ``cifar_lab.numpy_reference``.
Lightning counts steps only through a torch optimizer, so an adapter wraps the NumPy SGD in one. The
NumPy arrays share the memory of torch parameters, so that checkpoints contain them.

Softmax and cross entropy are one step here, in float32. The report's two modules, which have the
same gradient in exact arithmetic, are in ``cifar_lab.course``.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from torch import Tensor, nn

from cifar_lab.data.image_set import IMAGE_SHAPE
from cifar_lab.data.loader import Batch
from cifar_lab.errors import UserError
from cifar_lab.models.classifier import ImageClassifier, require
from cifar_lab.models.mlp import REPORT_STD
from cifar_lab.numpy_reference.cross_entropy import SoftmaxCrossEntropy
from cifar_lab.numpy_reference.layer import Std
from cifar_lab.numpy_reference.network import MLP
from cifar_lab.numpy_reference.optimizer import SGD

INITS: dict[str, Std] = {"report": REPORT_STD, "he": "he", "pytorch": None}


class NumpyLinear(nn.Module):
    """The parameters of a linear layer, which share the memory of NumPy arrays."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        for name, array in arrays.items():
            parameter = nn.Parameter(torch.from_numpy(array), requires_grad=False)
            self.register_parameter(name, parameter)


class NumpyNetwork(nn.Module):
    """The NumPy MLP, with torch parameters that share the memory of its arrays.

    Args:
        hidden_units: number of units of each hidden layer, each above 0; empty makes a linear
            classifier.
        num_classes: number of outputs.
        init: initialization of the linear layers, a key of ``INITS``, as in MLPNetwork.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(self, hidden_units: Sequence[int], num_classes: int, init: str = "report") -> None:
        super().__init__()
        require(min(hidden_units, default=1) > 0, "hidden_units", hidden_units, "integers above 0")
        for sizes in pairwise([prod(IMAGE_SHAPE), *hidden_units, num_classes]):
            # This fails early for a damaged checkpoint that asks for too much (run/restore.py).
            nn.Linear(*sizes, device="meta")
        seed = int(torch.randint(2**31, ()))  # from torch, so that seed_everything determines it
        self.reference = MLP(
            prod(IMAGE_SHAPE), hidden_units, num_classes, std=INITS[init], rng=seed, dtype="float32"
        )
        for position, layer in self.reference:
            self.add_module(f"linear{position}", NumpyLinear(layer.params))

    @torch.compiler.disable
    def forward(self, images: Tensor) -> Tensor:
        """Map float32 images (B, 3, 32, 32) to logits (B, num_classes)."""
        # The arrays are views of the parameters, which are other tensors in a copied module.
        for position, layer in self.reference:
            for name, parameter in self.get_submodule(f"linear{position}").named_parameters():
                layer.params[name] = parameter.detach().numpy()
        return torch.from_numpy(self.reference.forward(images.flatten(1).numpy()))


class NumpySGD(torch.optim.Optimizer):
    """A torch optimizer that takes the steps of the NumPy SGD."""

    def __init__(self, network: NumpyNetwork, lr: float) -> None:
        super().__init__(network.parameters(), {"lr": lr})
        self._sgd = SGD(network.reference, lr)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from the gradients of the last backward pass."""
        result = closure() if closure is not None else None
        self._sgd.lr = self.param_groups[0]["lr"]
        self._sgd.step()
        return result


class NumpyMLP(ImageClassifier):
    """The report's NumPy MLP; its settings are those of NumpyNetwork and ImageClassifier.

    ``init="auto"`` is the report's initialization, or PyTorch's for several hidden layers: weights
    of 0.0001 let next to no gradient pass through several layers.
    """

    cpu_only = True

    def __init__(
        self,
        hidden_units: Sequence[int] = (100,),
        init: str = "auto",
        normalization: str = "mean_image",
        lr: float = 2e-3,
        num_classes: int = 10,
    ) -> None:
        require(init in ("auto", *INITS), "init", init, " or ".join(("auto", *INITS)))
        several = len(hidden_units) > 1
        usual = "pytorch" if several else "report"
        network = NumpyNetwork(hidden_units, num_classes, usual if init == "auto" else init)
        super().__init__(network, num_classes, normalization, "sgd", lr)
        self.numpy_network = network.reference
        self.criterion = SoftmaxCrossEntropy()
        self.automatic_optimization = False
        if init == "auto" and several:
            self.note = "init pytorch, since the report's cannot train several hidden layers"
        self.save_hyperparameters()

    @torch.compiler.disable
    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Take a step of SGD in NumPy; return the loss () and the logits (B, num_classes)."""
        images, labels = batch
        logits = self(images)
        loss = torch.tensor(self.criterion.forward(logits.numpy(), labels.numpy()))
        self.numpy_network.backward(self.criterion.backward())
        self.optimizers().step()
        return {"loss": loss, "logits": logits}

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients of the last backward pass, by the names of the parameters."""
        return {
            f"linear{position}.{name}": torch.from_numpy(array)
            for position, layer in self.numpy_network
            for name, array in layer.grads.items()
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the NumPy SGD."""
        return NumpySGD(self.network, self.lr)  # type: ignore[arg-type]

    def check_trainer(self, trainer: Trainer) -> None:
        """Raise a UserError if the Trainer has settings that need torch."""
        refused = {
            "accelerator": not isinstance(trainer.accelerator, CPUAccelerator),
            "devices": trainer.world_size > 1,
            "precision": trainer.precision != "32-true",
            "gradient_clip_val": bool(trainer.gradient_clip_val),
            "accumulate_grad_batches": trainer.accumulate_grad_batches > 1,
        }
        if flags := [flag for flag, wrong in refused.items() if wrong]:
            raise UserError(
                "numpy_mlp computes in NumPy: one CPU process, float32, no "
                f"{' and no '.join(flags)} other than the default"
            )
