"""PyTorch layers. This package exports batch normalization by hand, in all its forms."""

from .batch_norm import BatchNorm1d, BatchNorm2d, BatchNormFunction, batch_norm, batch_norm_composed

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNormFunction", "batch_norm", "batch_norm_composed"]
