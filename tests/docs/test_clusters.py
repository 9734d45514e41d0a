"""docs/clusters.md: its job scripts run as they stand, where there is a SLURM."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"
SCRIPTS = re.findall(r"```bash\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
ONE, SEVERAL_MACHINES, SEEDS, REQUEUED, SWEEP = range(5)


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Submits a script of the page and gives the number of the job."""
    if not shutil.which("sbatch") or subprocess.run(["scontrol", "ping"]).returncode:
        pytest.skip("needs SLURM: sbatch, and a controller that answers")
    program = tmp_path / "bin" / "cifar-lab"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cifar_lab "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parents[1]))

    def submit(number: int, *words: str) -> str:
        Path("job.sh").write_text(SCRIPTS[number])
        command = ["sbatch", "--parsable", "--output=out-%A-%a.txt", *words, "job.sh"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return submit


def _summaries(job: str, count: int = 1) -> list[dict]:
    """Waits for the summaries of the runs of a job."""
    for _ in range(250):
        found = list(Path("runs", job).glob("*/version_*/summary.json"))
        if len(found) == count:
            return [json.loads(path.read_text("utf-8")) for path in found]
        time.sleep(1)
    told = [path.read_text() for path in Path().glob("out-*")]
    pytest.fail(f"job {job}: {len(found)} of {count} runs are finished\n{told}")


@pytest.mark.slow
def test_the_scripts_run(submit) -> None:
    jobs = {submit(ONE): 1, submit(SEVERAL_MACHINES): 1, submit(SEEDS): 3}
    one, several, seeds = (_summaries(job, count) for job, count in jobs.items())
    assert (one[0]["device"]["processes"], several[0]["device"]["processes"]) == (1, 2)
    assert {summary["seed"] for summary in seeds} == {0, 1, 2}


@pytest.mark.slow
def test_the_tasks_of_an_array_share_a_sweep(submit) -> None:
    job = submit(SWEEP)
    folder = Path("runs", job, "sweep_mlp")
    while not (folder / "sweep.json").exists():
        assert subprocess.run(["squeue", "-h", "-j", job], capture_output=True).stdout
        time.sleep(1)
    found = json.loads((folder / "sweep.json").read_text("utf-8"))
    assert found["complete"] == 8
    assert len({run for trial in found["trials"] for run in trial["runs"]}) == 8


@pytest.mark.slow
def test_a_job_that_got_the_signal_resumes_in_its_folder(submit) -> None:
    job = submit(REQUEUED)
    checkpoints = Path("runs", job, "mlp-synthetic", "version_0", "checkpoints")
    for _ in range(200):
        if (checkpoints / "last.ckpt").exists():
            break
        time.sleep(0.3)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    assert _summaries(job)[0]["steps"] > 0
    assert [path.name for path in Path("runs", job).glob("*/*")] == ["version_0"]
    assert "resumed from step" in Path(f"out-{job}-4294967294.txt").read_text()
    assert not list(Path().glob("hpc_ckpt*"))
