"""The right formulas of the course's layers, one line each, and where they are derived."""

NORM = {
    "output": "y = γ x̂ + β with x̂ = (x − μ) / √(σ² + ε), where σ² is divided by N",
    "x": "dX = r (dX̂ − mean(dX̂) − x̂ mean(dX̂ x̂)) with dX̂ = γ dY, r = 1/√(σ² + ε)",
    "gamma": "dγ = Σ_s dy_s x̂_s, a sum over the samples",
    "beta": "dβ = Σ_s dy_s, a sum over the samples",
}
# By layer and answer; "output" is the forward pass.
FORMULAS: dict[str, dict[str, str]] = {
    "linear": {
        "output": "Y = X Wᵀ + b",
        "x": "dX = dY W",
        "weight": "dW = dYᵀ X",
        "bias": "db = Σ_s dy_s, a sum over the samples",
    },
    "relu": {"output": "Y = max(0, X)", "x": "dX = dY where X > 0, and 0 elsewhere"},
    "leaky_relu": {
        "output": "Y = X where X > 0, and a X elsewhere",
        "x": "dX = dY where X > 0, and a dY elsewhere",
    },
    "elu": {
        "output": "Y = X where X > 0, and α (exp(X) − 1) elsewhere",
        "x": "dX = dY where X > 0, and dY α exp(X) elsewhere",
    },
    "softmax": {
        "output": "p_i = exp(x_i − m) / Σ_k exp(x_k − m), m the largest of the row",
        "x": "dx_j = p_j (dp_j − Σ_i dp_i p_i), a sum over the classes of a sample",
    },
    "cross_entropy": {
        "output": "L = −1/B Σ_s Σ_j t_sj log p_sj",
        "x": "dp_sj = −t_sj / (B p_sj)",
    },
    "batch_norm": NORM,
    "layer_norm": NORM,
}

SECTIONS = {
    "linear": "Linear layer",
    "relu": "ReLU",
    "leaky_relu": "Leaky ReLU and ELU",
    "elu": "Leaky ReLU and ELU",
    "softmax": "Softmax, and why its Jacobian is never built",
    "cross_entropy": "Cross entropy",
    "batch_norm": "Batch normalization",
    "layer_norm": "Layer normalization",
}
"""The section of ``docs/derivations.md`` to read, by layer."""
