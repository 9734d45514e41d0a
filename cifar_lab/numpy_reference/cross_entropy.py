"""Cross entropy: the mean over the batch of −log of the probability of the right class.

There are two forms. ``CrossEntropy`` takes probabilities and one-hot rows, as in the report's
derivation, and is meant to follow ``Softmax``. ``SoftmaxCrossEntropy`` takes logits and class
indices and computes both at once. Use it for training, because it never divides by a probability.
"""

import numpy as np

from cifar_lab.numpy_reference.layer import Array, IntArray, after_forward, check_array


class CrossEntropy:
    """``L = −1/B Σ_s Σ_j t_sj log p_sj`` for probabilities p and one-hot targets t.

    Probabilities below the smallest normal number of their dtype, 2.2e-308 in float64 and 1.2e-38
    in float32, are replaced by that number. So the loss, at most 708 or 87 per sample, and the
    gradient stay finite. Rows of p need not sum to 1, and t may hold any weights from 0 to 1.
    """

    def __init__(self) -> None:
        self._saved: tuple[Array, Array] | None = None

    def forward(self, p: Array, t: Array) -> float:
        """Return the mean loss of probabilities p (B, C) under targets t (B, C), B at least 1."""
        check_array("CrossEntropy: p", p, ("B", "C"))
        check_array("CrossEntropy: t", t, p.shape, dtype=p.dtype)
        if len(p) == 0:
            raise ValueError(f"CrossEntropy: p has shape {p.shape}; expected at least one sample")
        p = np.maximum(p, np.finfo(p.dtype).tiny)
        self._saved = p, t
        return float(-(t * np.log(p)).sum() / len(p))

    def backward(self) -> Array:
        """Return ∂L/∂p (B, C)."""
        p, t = after_forward(self._saved)
        return -t / p / len(p)  # ∂L/∂p_sj = −t_sj / (B p_sj)


class SoftmaxCrossEntropy:
    """``L = 1/B Σ_s (log Σ_k exp(x_sk) − x_sc)`` for logits x and the class c of each sample.

    The loss is finite for all finite logits, because the logarithm of the softmax is computed as
    (x − max) − log Σ exp(x − max), where the sum is at least 1.
    """

    def __init__(self) -> None:
        self._saved: tuple[Array, IntArray] | None = None

    def forward(self, logits: Array, targets: IntArray) -> float:
        """Return the mean loss.

        Args:
            logits: (B, C), float32 or float64, with at least one sample and one class.
            targets: (B,), integers from 0 to C − 1.
        """
        check_array("SoftmaxCrossEntropy: logits", logits, ("B", "C"))
        if logits.size == 0:
            raise ValueError(
                f"SoftmaxCrossEntropy: logits has shape {logits.shape}; "
                "expected at least one sample and one class"
            )
        _check_targets("SoftmaxCrossEntropy: targets", targets, *logits.shape)
        z = logits - logits.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        self._saved = log_p, targets
        return float(-log_p[np.arange(len(targets)), targets].mean())

    def backward(self) -> Array:
        """Return ∂L/∂logits (B, C)."""
        log_p, targets = after_forward(self._saved)
        # The product of softmax's diag(p) − p pᵀ and cross entropy's −t/p: p cancels in p − t.
        dx = np.exp(log_p)
        dx[np.arange(len(targets)), targets] -= 1
        return dx / len(targets)


def _check_targets(what: str, targets: IntArray, n_samples: int, n_classes: int) -> None:
    if not isinstance(targets, np.ndarray):
        raise TypeError(f"{what} is a {type(targets).__name__}; expected a NumPy array")
    if targets.shape != (n_samples,):
        raise ValueError(f"{what} has shape {targets.shape}; expected {(n_samples,)}")
    if not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(f"{what} has dtype {targets.dtype}; expected integers (class indices)")
    if targets.min() < 0 or targets.max() >= n_classes:
        raise ValueError(
            f"{what} has values from {targets.min()} to {targets.max()}; "
            f"expected 0 to {n_classes - 1}"
        )
