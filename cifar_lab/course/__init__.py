"""The modules of the course, with the names and the behaviour that students know.

They wrap the NumPy reference and ``cifar_lab.layers``, so that a student's own tests run with them:
``from cifar_lab.course import LinearModule`` replaces ``from modules import LinearModule``. ``MLP``
is the NumPy one; the PyTorch one is ``cifar_lab.course.mlp_pytorch.MLP``.

All editions of the course are supported. Where they differ, an argument chooses the edition; its
default is the oldest one.
"""

from cifar_lab.course.mlp_numpy import MLP
from cifar_lab.course.modules import (
    CrossEntropyModule,
    ELUModule,
    LeakyReLUModule,
    LinearModule,
    ReLUModule,
    SoftMaxModule,
)
from cifar_lab.course.normalization import (
    CustomBatchNormAutograd,
    CustomBatchNormManualFunction,
    CustomBatchNormManualModule,
    CustomLayerNormAutograd,
    CustomLayerNormManualFunction,
    CustomLayerNormManualModule,
)

__all__ = [
    "MLP",
    "CrossEntropyModule",
    "CustomBatchNormAutograd",
    "CustomBatchNormManualFunction",
    "CustomBatchNormManualModule",
    "CustomLayerNormAutograd",
    "CustomLayerNormManualFunction",
    "CustomLayerNormManualModule",
    "ELUModule",
    "LeakyReLUModule",
    "LinearModule",
    "ReLUModule",
    "SoftMaxModule",
]
