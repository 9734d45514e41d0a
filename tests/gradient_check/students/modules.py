"""A student's file: right, with one-hot targets."""

import numpy as np


class LinearModule:
    def __init__(self, in_features, out_features, input_layer=False):
        std = 1 / np.sqrt(in_features) if input_layer else np.sqrt(2 / in_features)
        self.params = {
            "weight": np.random.randn(out_features, in_features) * std,
            "bias": np.zeros(out_features),
        }
        self.grads = {name: np.zeros_like(param) for name, param in self.params.items()}

    def forward(self, x):
        self.x = x
        return x @ self.params["weight"].T + self.params["bias"]

    def backward(self, dout):
        self.grads["weight"] = dout.T @ self.x
        self.grads["bias"] = dout.sum(0)
        return dout @ self.params["weight"]


class ReLUModule:
    def forward(self, x):
        self.x = x
        return np.maximum(x, 0)

    def backward(self, dout):
        return dout * (self.x > 0)


class LeakyReLUModule:
    def __init__(self, neg_slope):
        self.neg_slope = neg_slope

    def forward(self, x):
        self.x = x
        return np.maximum(0, x) + self.neg_slope * np.minimum(0, x)

    def backward(self, dout):
        return np.where(self.x > 0, dout, self.neg_slope * dout)


class ELUModule:
    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha * (np.exp(x) - 1))

    def backward(self, dout):
        return dout * np.where(self.x > 0, 1, self.alpha * np.exp(self.x))


class SoftMaxModule:
    def forward(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.p = e / e.sum(axis=1, keepdims=True)
        return self.p

    def backward(self, dout):
        jacobian = np.einsum("bi,ij->bij", self.p, np.eye(self.p.shape[1]))
        jacobian = jacobian - np.einsum("bi,bj->bij", self.p, self.p)
        return np.einsum("bi,bij->bj", dout, jacobian)


class CrossEntropyModule:
    def forward(self, x, y):
        return -np.sum(y * np.log(x)) / len(x)

    def backward(self, x, y):
        return -y / x / len(x)
