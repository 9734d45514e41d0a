"""The published speed-run: it learns, its parts do what their names say, and it is compared."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import peer
import sections
from contenders import Setting

SHORT = peer.Schedule(epochs=3, first_bias_epochs=1, batch_size=100)


@pytest.fixture
def given(write_tree: Callable[..., Path]) -> dict[str, str]:
    return {"data_dir": str(write_tree(train=200)), "accelerator": "cpu", "batch_size": "100"}


@pytest.mark.slow
def test_it_learns(given: dict[str, str]) -> None:
    setting = Setting("fast_cnn", 1, given)
    torch.manual_seed(0)
    network = peer.train(*setting.train_tensors(), 3, setting.autocast, SHORT).eval()
    images, labels = setting.test_tensors()
    assert (network(peer.normalize(images)).argmax(1) == labels).float().mean() > 0.55


def test_the_first_layer_whitens() -> None:
    torch.manual_seed(0)
    network, images = peer.Network(10), torch.randn(50, 3, 32, 32).cumsum(3) / 5
    network.whiten(images)
    found = network.first(images).detach() - network.first.bias[:, None, None]
    half = found[:, :12].movedim(1, 0).flatten(1)
    torch.testing.assert_close(found[:, 12:], -found[:, :12])
    torch.testing.assert_close(half @ half.mT / half.shape[1], torch.eye(12), atol=0.05, rtol=0)


def test_an_epoch_has_each_image_once_shifted_and_every_other_one_flipped() -> None:
    torch.manual_seed(0)
    labels = torch.arange(40)
    images = torch.rand(40, 3, 32, 32)
    batches = list(peer._batches(images, labels, peer.Schedule(2, 1, 20)))
    first, second = (torch.cat([y for _, y in part]) for part in (batches[:2], batches[2:]))
    assert sorted(first.tolist()) == sorted(second.tolist()) == labels.tolist()
    padded = torch.nn.functional.pad(images, [2] * 4, mode="reflect")

    def is_flipped(seen: torch.Tensor, label: int) -> bool:
        for flipped in (False, True):
            whole = padded[label].flip(2) if flipped else padded[label]
            places = [whole[:, y : y + 32, x : x + 32] for y in range(5) for x in range(5)]
            if any(torch.equal(place, seen) for place in places):
                return flipped
        pytest.fail("no shift of the image")

    flips = [
        {int(n): is_flipped(x, int(n)) for x, n in zip(*batch, strict=True)} for batch in batches
    ]
    before, after = flips[0] | flips[1], flips[2] | flips[3]
    assert all(before[n] != after[n] for n in before)
    assert 8 < sum(before.values()) < 32


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_an_update_is_made_nearly_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(peer._orthogonal(torch.randn(shape)))
    assert 0.6 < values.min() < values.max() < 1.3


@pytest.mark.slow
def test_both_are_trained_in_turns_and_compared(given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "Schedule", lambda epochs: SHORT)
    found = sections.peer(given, rounds=2, epochs=1)
    assert found["seeds"] == [0, 1]
    for name in ("ours", "peer"):
        assert len(found["accuracies"][name]) == 2
        assert all(seconds > 0 for seconds in found["seconds"][name])
        assert found["accuracies"][name][0] != found["accuracies"][name][1]
    assert set(found["ratio_to_peer"]) == {"ours"}
