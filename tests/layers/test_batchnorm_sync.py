"""Two processes with parts of a batch do what one process does with the whole."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from cifar_lab.layers import BatchNorm1d, BatchNorm2d
from cifar_lab.layers.sync import AllReduceSum

# Case: module, shape of the whole batch, rows of rank 0, form.
CASES = {
    "halves": (BatchNorm2d, (8, 3, 4, 4), 4, "manual"),
    "uneven": (BatchNorm2d, (7, 3, 4, 2), 5, "manual"),
    "uneven composed": (BatchNorm2d, (7, 3, 4, 2), 5, "composed"),
    "one row": (BatchNorm1d, (6, 3), 5, "manual"),
    "one row each": (BatchNorm1d, (2, 3), 1, "manual"),
    "no row": (BatchNorm1d, (6, 3), 6, "manual"),
}


def inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The whole batch, the second half far from the first, and its upstream gradient."""
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    x[shape[0] // 2 :] += 5
    return x, dy


def step(case: str, rows: slice, sync: bool) -> dict[str, Tensor]:
    """One step on some rows; the penalty on dx takes the gradient of the gradient."""
    layer, shape, _, form = CASES[case]
    module = layer(shape[1], sync=sync, form=form).double()
    torch.nn.init.uniform_(module.weight, generator=torch.Generator().manual_seed(1))
    x, dy = (tensor[rows] for tensor in inputs(shape))
    x.requires_grad_()
    y = module(x)
    (dx,) = torch.autograd.grad(y, x, dy, retain_graph=True)
    parameters = torch.autograd.grad(y, tuple(module.parameters()), dy, retain_graph=True)
    (slope,) = torch.autograd.grad(y, x, dy, create_graph=True)
    (second,) = torch.autograd.grad(slope.pow(2).sum(), x)
    return {
        "y": y.detach(),
        "dx": dx,
        "second": second,
        "dgamma": parameters[0],
        "dbeta": parameters[1],
        "mean": module.running_mean,
        "var": module.running_var,
        "eval": module.eval()(x).detach(),
    }


def evaluate(rows: slice) -> Tensor:
    """Evaluation without running statistics takes those of the input: of this rank's alone."""
    module = BatchNorm2d(3, track_running_stats=False, sync=True).double().eval()
    return module(inputs(CASES["halves"][1])[0][rows]).detach()


def part(case: str, rank: int) -> slice:
    split = CASES[case][2]
    return slice(0, split) if rank == 0 else slice(split, None)


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    results = {case: step(case, part(case, rank), sync=True) for case in CASES}
    results["evaluation"] = {"y": evaluate(part("halves", rank))}
    gradient = torch.full((2,), float(rank + 1), requires_grad=True)
    total = AllReduceSum.apply(gradient)
    total.backward(torch.tensor([1.0, 10.0]) * (rank + 1))
    results["all reduce"] = {"total": total.detach(), "gradient": gradient.grad}
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, (str(folder),), nprocs=2)
    return [torch.load(Path(folder, f"rank{rank}.pt")) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_with_the_whole_batch(case, ranks) -> None:
    whole = step(case, slice(None), sync=False)
    parts = [results[case] for results in ranks]
    for name in ("y", "dx", "second", "eval"):  # rows of the batch
        torch.testing.assert_close(torch.cat([p[name] for p in parts]), whole[name])
    for name in ("dgamma", "dbeta"):  # shares
        torch.testing.assert_close(parts[0][name] + parts[1][name], whole[name])
    for name in ("mean", "var"):  # the same on every rank
        for one in parts:
            torch.testing.assert_close(one[name], whole[name])


def test_evaluation_does_not_synchronise(ranks) -> None:
    for rank, results in enumerate(ranks):
        torch.testing.assert_close(results["evaluation"]["y"], evaluate(part("halves", rank)))


def test_without_sync_the_ranks_differ() -> None:
    first, second = (step("halves", part("halves", rank), sync=False)["mean"] for rank in range(2))
    assert (first - second).abs().min() > 0.1


def test_sum_over_ranks_and_its_gradient(ranks) -> None:
    for results in ranks:
        assert results["all reduce"]["total"].tolist() == [3, 3]
        assert results["all reduce"]["gradient"].tolist() == [3, 30]


def test_sync_without_a_process_group_is_one_process() -> None:
    one, other = (step("uneven", slice(None), sync=sync) for sync in (True, False))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)
