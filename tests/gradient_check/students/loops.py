"""A student's file of the edition of 2020: loops, float32, and an ELU without an argument."""

import numpy as np


class LinearModule:
    def __init__(self, in_features, out_features):
        self.params = {
            "weight": np.random.normal(0, 0.0001, (out_features, in_features)).astype(np.float32),
            "bias": np.zeros((1, out_features), dtype=np.float32),
        }
        self.grads = {"weight": None, "bias": None}

    def forward(self, x):
        self.inputs = x.astype(np.float32)
        rows = [self.params["weight"] @ row + self.params["bias"][0] for row in self.inputs]
        return np.array(rows)

    def backward(self, dout):
        dW = np.zeros_like(self.params["weight"])
        db = np.zeros_like(self.params["bias"])
        for s in range(len(dout)):
            dW += np.outer(dout[s], self.inputs[s])
            db += dout[s]
        self.grads["weight"], self.grads["bias"] = dW, db
        return dout.astype(np.float32) @ self.params["weight"]


class ELUModule:
    def forward(self, x):
        self.out = np.where(x > 0, x, np.exp(x) - 1).astype(np.float32)
        return self.out

    def backward(self, dout):
        return dout * np.where(self.out > 0, 1, self.out + 1)


class ReLUModule:
    def forward(self, x):
        self.mask = (x >= 0).astype(np.float32)
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


class SoftMaxModule:
    def forward(self, x):
        x = x.astype(np.float32)
        self.p = np.zeros_like(x)
        for s in range(len(x)):
            e = np.exp(x[s] - max(x[s]))
            self.p[s] = e / sum(e)
        return self.p

    def backward(self, dout):
        dx = np.zeros_like(dout)
        for s in range(len(dout)):
            dx[s] = dout[s] @ (np.diag(self.p[s]) - np.outer(self.p[s], self.p[s]))
        return dx
