"""The parts of a run: its folder, its checkpoints, its precision."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cifar_lab import atomic
from cifar_lab.devices import device_kind
from cifar_lab.errors import UserError
from cifar_lab.parsing import parse_fit
from cifar_lab.training import precision, random_state, run_folder, run_lock, trainer
from cifar_lab.training.checkpoints import AtomicCheckpointIO, Checkpoints
from cifar_lab.training.random_state import RandomState
from cifar_lab.training.run_folder import RunFolder
from cifar_lab.training.summary import accuracies

# --- run folder -------------------------------------------------------------------------------


def test_versions_count_up_and_leave_gaps_alone() -> None:
    assert run_folder.claim("logs", "mlp").version == "version_0"
    Path("logs/mlp/version_7").mkdir()
    Path("logs/mlp/notes").mkdir()
    assert run_folder.claim("logs", "mlp").path == Path("logs/mlp/version_8")
    assert run_folder.claim("logs", "cnn").version == "version_0"


def test_runs_that_start_together_get_different_folders() -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: run_folder.claim("logs", "mlp").path, range(32)))
    assert len(set(folders)) == 32


def test_a_log_folder_that_cannot_be_written_is_named() -> None:
    Path("file").touch()
    with pytest.raises(UserError, match=r"log_dir file/runs: cannot be written .*--log_dir"):
        run_folder.claim("file/runs", "mlp")


# --- checkpoints ------------------------------------------------------------------------------


def test_a_failed_save_leaves_the_old_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    io = AtomicCheckpointIO()
    io.save_checkpoint({"step": 1}, "last.ckpt")
    with pytest.raises(AttributeError):
        io.save_checkpoint({"step": lambda: 2}, "last.ckpt")  # no pickle of a lambda
    assert torch.load("last.ckpt", weights_only=True) == {"step": 1}
    assert [path.name for path in Path().iterdir()] == ["last.ckpt"]


def test_a_file_is_synced_then_renamed_then_its_folder_is_synced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_sync(number: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    def note_rename(source: Path, target: Path) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    atomic.write_atomically(Path("x"), b"content")
    assert done == ["file", "rename", "folder"]
    folder = RunFolder(Path("logs"), "mlp", "version_0")
    folder.last_checkpoint.parent.mkdir(parents=True)
    folder.last_checkpoint.write_bytes(b"weights")
    checkpoints = Checkpoints(folder, "val")
    checkpoints.points = [{"step": 4, "accuracy": 0.5, "loss": 1.0}]
    checkpoints.keep_if_best(4)
    assert done[3:] == ["rename", "folder"]


def test_the_clock_saves_every_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(seconds=0.0)
    clock = SimpleNamespace(monotonic=lambda: now.seconds)
    monkeypatch.setattr("cifar_lab.training.checkpoints.time", clock)
    saved: list[float] = []
    minutes = parse_fit([]).settings.checkpoint_minutes
    checkpoints = Checkpoints(RunFolder(Path("logs"), "mlp", "version_0"), "val", minutes)
    monkeypatch.setattr(checkpoints, "save", lambda trainer: saved.append(now.seconds))
    loop = SimpleNamespace(total_batch_idx=0)
    run = SimpleNamespace(
        world_size=1, global_step=0, should_stop=False, val_check_batch=1000, fit_loop=loop
    )
    for now.seconds in (60.0, 119.0, 120.0):
        run.global_step += 1
        loop.total_batch_idx += 1
        checkpoints.on_train_batch_end(run, None, None, None, 0)  # type: ignore[arg-type]
    assert saved == [120.0]
    now.seconds = 125.0
    assert checkpoints.state_dict()["seconds"] == 125.0
    other = Checkpoints(checkpoints.folder, "val")
    other.load_state_dict(checkpoints.state_dict())
    now.seconds = 130.0
    assert other.state_dict()["seconds"] == 130.0  # 125 before, 5 since


def test_the_best_point_is_the_first_of_the_highest() -> None:
    checkpoints = Checkpoints(RunFolder(Path("logs"), "mlp", "version_0"), "val")
    values = [0.2, 0.5, 0.5, 0.4]
    checkpoints.points = [{"step": i, "accuracy": v, "loss": 1.0} for i, v in enumerate(values)]
    assert checkpoints.best["step"] == 1
    assert checkpoints.last["step"] == 3


def test_accuracies_name_the_split_that_they_are_of() -> None:
    best, last = ({"step": s, "accuracy": a, "loss": 0.0} for s, a in ((3, 0.6), (5, 0.5)))
    assert accuracies("test", best, last, None) == {
        "test": {"best": 0.6, "best_step": 3, "last": 0.5, "last_step": 5}
    }
    found = accuracies("val", best, last, 0.55)
    assert found["val"]["last"] == 0.5
    assert found["test"] == {"of_best_checkpoint": 0.55, "of_best_checkpoint_step": 3}


# --- hardware ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("native", "speedup", "expected"),
    [(True, 1.8, "bf16-mixed"), (True, 0.5, "32-true"), (False, 1.8, "32-true")],
)
def test_auto_precision_is_bf16_only_where_the_hardware_has_it_and_gains(
    native: bool, speedup: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {torch.float32: speedup, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, "_cpu_computes_in_bf16", lambda: native)
    monkeypatch.setattr(precision, "_product_seconds", seconds.__getitem__)
    precision._cpu_speedup.cache_clear()
    assert precision.resolve_precision("auto", "cpu") == expected
    assert precision.resolve_precision("64-true", "cpu") == "64-true"
    assert precision.resolve_precision("auto", "mps") == "32-true"
    precision._cpu_speedup.cache_clear()


def test_several_processes_on_cpus_never_decide_the_precision_by_timings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "_gains_from_bf16", lambda accelerator: True)
    for words, expected in (
        ("", "bf16-mixed"),
        ("--devices 1", "bf16-mixed"),
        ("--devices 2", "32-true"),
        ("--num_nodes 2", "32-true"),
        ("--devices 2 --precision bf16-mixed", "bf16-mixed"),
    ):
        settings = parse_fit(["--accelerator", "cpu", *words.split()]).settings
        assert trainer.hardware_of(settings, cpu_only=False) == ("cpu", expected)
    settings = parse_fit([]).settings
    assert trainer.hardware_of(settings, cpu_only=True) == ("cpu", "32-true")


def test_the_products_are_timed() -> None:
    assert precision._product_seconds(torch.bfloat16) > 0


@pytest.mark.parametrize("capability", ["avx512_bf16", "amx_bf16", None])
def test_a_cpu_computes_in_bf16_with_avx512_bf16_or_amx(
    capability: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"avx512_bf16": False, "amx_bf16": False, capability: True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert precision._cpu_computes_in_bf16() == (capability is not None)


def test_a_torch_without_capabilities_is_asked_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for name, found in (("_is_avx512_bf16_supported", True), ("_is_amx_tile_supported", False)):
        monkeypatch.setattr(torch.cpu, name, lambda found=found: found, raising=False)
    assert precision._cpu_computes_in_bf16()


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_kind("auto") == device_kind("cpu") == "cpu"
    for name in ("gpu", "mps"):
        with pytest.raises(UserError, match=f"--accelerator {name}: torch .* no such device"):
            device_kind(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_kind("auto") == device_kind("gpu") == "cuda"


def test_every_flag_of_the_hardware_and_for_a_trial_reaches_the_trainer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer, "Trainer", lambda **given: SimpleNamespace(**given))
    words = "--accelerator cpu --devices 2 --num_nodes 3 --strategy ddp --precision 64-true"
    words += " --max_epochs 7 --eval_every 5 --accumulate_grad_batches 4 --log_every 6"
    words += " --gradient_clip_val 0.5 --deterministic --profiler simple --fast_dev_run"
    words += " --overfit_batches 2 --limit_train_batches 8 --limit_val_batches 0.75"
    found: Any = trainer.build_trainer(parse_fit(words.split()).settings, cpu_only=False)
    expected = {"accelerator": "cpu", "devices": 2, "num_nodes": 3, "strategy": "ddp"}
    expected |= {"precision": "64-true", "max_epochs": 7, "max_steps": -1}
    expected |= {"val_check_interval": 20, "accumulate_grad_batches": 4, "log_every_n_steps": 6}
    expected |= {"gradient_clip_val": 0.5, "deterministic": True, "profiler": "simple"}
    expected |= {"fast_dev_run": True, "overfit_batches": 2}
    expected |= {"limit_train_batches": 8, "limit_val_batches": 0.75}
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "wanted"), [("2", 2), ("0,1", [0, 1]), ("1,", [1]), ("auto", "auto")]
)
def test_devices_are_a_number_a_list_or_auto(text: str, wanted: object) -> None:
    assert trainer._devices(text) == wanted


@pytest.mark.parametrize("text", ["", ",", "one", "0,,1"])
def test_devices_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"--devices {text}: expected a number, a list"):
        trainer._devices(text)


def test_each_process_goes_on_with_its_own_random_numbers(monkeypatch) -> None:
    # As two processes would save them together.
    first, second = (torch.Generator().manual_seed(seed).get_state() for seed in (1, 2))
    together = [{"cpu": first}, {"cpu": second}]
    monkeypatch.setattr(random_state, "_gathered", lambda own: together)
    saved = RandomState().state_dict()
    for rank, seed in enumerate((1, 2)):
        state = RandomState()
        state.load_state_dict(saved)
        state.on_train_start(SimpleNamespace(global_rank=rank), None)
        assert torch.rand(1).equal(torch.rand(1, generator=torch.Generator().manual_seed(seed)))


def test_a_checkpoint_of_before_has_one_state_for_all(monkeypatch) -> None:
    state = RandomState()
    state.load_state_dict({"cpu": [torch.Generator().manual_seed(1).get_state()]})
    state.on_train_start(SimpleNamespace(global_rank=1), None)
    assert torch.rand(1).equal(torch.rand(1, generator=torch.Generator().manual_seed(1)))


def test_a_run_is_locked_while_a_process_holds_its_lock(tmp_path: Path) -> None:
    assert not run_lock.is_locked(tmp_path)
    with run_lock.locked(tmp_path):
        assert run_lock.is_locked(tmp_path)
    (tmp_path / "run.lock").write_text("99999")  # of a process that died
    assert not run_lock.is_locked(tmp_path)


def test_where_there_are_no_locks_a_run_may_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(file: object) -> bool:
        raise OSError("no locks available")

    (tmp_path / "run.lock").touch()
    monkeypatch.setattr(run_lock, "try_lock", no_locks)
    assert run_lock.is_locked(tmp_path)


# --- several processes, and file systems that lack something --------------------------------------


@pytest.mark.parametrize(
    ("wish", "others", "point", "expected"),
    [
        (True, False, True, True),
        (False, True, True, True),
        (False, False, True, False),
        (True, True, False, False),  # asked at points of the curves alone
    ],
)
def test_a_wish_of_one_process_is_that_of_all(
    wish: bool, others: bool, point: bool, expected: bool
) -> None:
    asked = []

    def reduce(own: bool, all: bool) -> bool:
        asked.append(own)
        assert not all
        return own or others

    trainer = SimpleNamespace(
        world_size=2,
        training=True,
        global_step=3,
        lightning_module=SimpleNamespace(is_point_due=lambda step: point),
        strategy=SimpleNamespace(reduce_boolean_decision=reduce),
    )
    assert Checkpoints.agreed(trainer, wish) is expected  # type: ignore[arg-type]
    assert asked == ([wish] if point else [])
    trainer.world_size = 1
    assert Checkpoints.agreed(trainer, wish) is wish  # type: ignore[arg-type]


def test_without_links_the_best_checkpoint_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise OSError("no links here")

    folder = RunFolder(Path("logs"), "mlp", "version_0")
    folder.last_checkpoint.parent.mkdir(parents=True)
    folder.last_checkpoint.write_bytes(b"weights")
    monkeypatch.setattr("os.link", refuse)
    checkpoints = Checkpoints(folder, "val")
    checkpoints.points = [{"step": 4, "accuracy": 0.5, "loss": 1.0}]
    checkpoints.keep_if_best(4)
    assert folder.best_checkpoint.read_bytes() == b"weights"
    assert {path.name for path in folder.best_checkpoint.parent.iterdir()} == {
        "best.ckpt",
        "last.ckpt",
    }


def test_without_locks_a_run_is_not_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object) -> bool:
        raise OSError("no locks here")

    monkeypatch.setattr(run_lock, "try_lock", refuse)
    with run_lock.locked(Path()), run_lock.locked(Path()):
        pass


@pytest.mark.parametrize(("computes", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_that_computes_in_bf16_does_so(
    computes: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool) -> bool:
        return computes or including_emulation  # every GPU can emulate it

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert precision.resolve_precision("auto", "cuda") == expected
    assert precision.resolve_precision("auto", "mps") == "32-true"


def test_a_rename_that_windows_forbids_for_a_while_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace, tries = os.replace, []

    def busy(source: Path, target: Path) -> None:
        tries.append(target)
        if len(tries) < 3:
            raise PermissionError("another program reads it")
        replace(source, target)

    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(atomic, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("os.replace", busy)
    atomic.write_atomically(Path("x"), b"new")
    assert (len(tries), Path("x").read_bytes()) == (3, b"new")
    monkeypatch.setattr("sys.platform", "linux")
    tries.clear()
    with pytest.raises(PermissionError):
        atomic.write_atomically(Path("x"), b"newer")
    assert Path("x").read_bytes() == b"new"
    assert not Path("x.part").exists()


def test_json_files_hold_names_that_are_no_utf8() -> None:
    content = {"command": "--data_dir /tmp/\udcff", "name": "Bücher"}
    atomic.write_json(Path("x.json"), content)
    text = Path("x.json").read_text("utf-8")
    assert json.loads(text) == content
    assert "Bücher" in text
