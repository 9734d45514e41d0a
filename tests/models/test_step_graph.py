"""A replayed training step does what the step does."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_lab.models.step_graph import StepGraph
from cifar_lab.optimizers.muon import Muon

pytestmark = pytest.mark.gpu


def _trained(optimizer_name: str, replayed: bool, precision: torch.dtype) -> tuple[Tensor, ...]:
    """Losses of ten steps whose rates fall, and the state at the end."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(1152, 3))
    network.cuda()
    if optimizer_name == "muon":
        optimizer: torch.optim.Optimizer = Muon(network.parameters(), lr=0.1)
    else:
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True, capturable=True)

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cuda", precision, precision != torch.float32, cache_enabled=False):
            logits = network(images)
            loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), logits.detach()

    run = StepGraph(step, optimizer) if replayed else step
    losses = []
    for number in range(10):
        optimizer.param_groups[0]["lr"] = 0.1 / (number + 1)
        images = torch.randn(20, 3, 14, 14, device="cuda")
        loss, _ = run(images, torch.randint(3, (20,), device="cuda"))
        losses.append(loss.clone())
        assert type(optimizer.param_groups[0]["lr"]) is float
    return torch.stack(losses), *network.state_dict().values()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_replayed_steps_are_the_steps(optimizer: str, precision: torch.dtype) -> None:
    torch.backends.cudnn.deterministic = True
    try:
        plain = _trained(optimizer, replayed=False, precision=precision)
        replayed = _trained(optimizer, replayed=True, precision=precision)
    finally:
        torch.backends.cudnn.deterministic = False
    for ours, expected in zip(replayed, plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
