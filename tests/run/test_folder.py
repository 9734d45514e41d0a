"""The folder of a run: versions that count up, and a lock that ends with its process."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from filelock import FileLock

from cifar_lab.errors import UserError
from cifar_lab.run import folder as run_folder
from cifar_lab.run.folder import RunFolder


def test_versions_count_up_and_leave_gaps_alone() -> None:
    assert run_folder.claim("logs", "mlp").version == "version_0"
    Path("logs/mlp/version_7").mkdir()
    Path("logs/mlp/notes").mkdir()
    assert run_folder.claim("logs", "mlp").path == Path("logs/mlp/version_8")
    assert run_folder.claim("logs", "cnn").version == "version_0"


def _claim(ready: threading.Barrier) -> str:
    ready.wait()
    return run_folder.claim("logs", "mlp").version


def test_twenty_runs_that_start_together_get_twenty_folders() -> None:
    ready = threading.Barrier(20)
    with ThreadPoolExecutor(20) as pool:  # they share nothing but the file system, as processes do
        versions = set(pool.map(_claim, 20 * [ready]))
    assert versions == {f"version_{number}" for number in range(20)}


def test_a_log_folder_that_cannot_be_written_is_named() -> None:
    Path("file").touch()
    told = r"log_dir file/runs: cannot be written, give another --log_dir \("
    with pytest.raises(UserError, match=told):
        run_folder.claim("file/runs", "mlp")


@pytest.fixture
def folder() -> RunFolder:
    return run_folder.claim("logs", "mlp")


def test_a_run_is_locked_while_a_process_holds_its_lock(folder: RunFolder) -> None:
    assert not folder.is_locked
    with folder.locked():
        assert folder.is_locked
        with pytest.raises(UserError, match=f"{folder.path}: another process is training this run"):
            folder.locked().__enter__()
    assert not folder.lock.exists()
    folder.lock.write_text("99999")  # left by a process that died
    assert not folder.is_locked


def test_a_lock_is_not_taken_through_a_link(folder: RunFolder) -> None:
    Path("notes").write_text("kept")
    folder.lock.symlink_to(Path("notes").absolute())
    with pytest.raises(OSError), folder.locked():  # noqa: PT011  # the system names the reason
        pass
    assert Path("notes").read_text() == "kept"


def test_without_locks_a_run_can_be_trained(folder: RunFolder, monkeypatch) -> None:
    monkeypatch.setattr(FileLock, "acquire", Mock(side_effect=NotImplementedError("no locks here")))
    with folder.locked(), folder.locked():
        pass
