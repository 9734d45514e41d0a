"""A student's file of the later editions: labels in place of one-hot rows, and a loop."""

import numpy as np


class CrossEntropyModule:
    def forward(self, x, y):
        return -np.mean(np.log(x[np.arange(len(x)), y]))

    def backward(self, x, y):
        dx = np.zeros_like(x)
        for s in range(len(x)):
            dx[s, y[s]] = -1 / x[s, y[s]] / len(x)
        return dx
