"""Layers for torch; exported here is batch normalization by hand.

Composed of elementary operations, as an autograd Function, and as modules around both. The other
layers are imported from their own files.
"""

from .composed import batch_norm_composed
from .factory import KINDS, batch_norm
from .function import BatchNormFunction
from .modules import BatchNorm1d, BatchNorm2d

__all__ = [
    "KINDS",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNormFunction",
    "batch_norm",
    "batch_norm_composed",
]
