"""Runs that start at the same moment share no folder."""

import subprocess
import sys

CLAIM = """
import sys, time
from cifar_lab.training.run_folder import claim
print("ready", flush=True)
sys.stdin.readline()
print(claim("logs", "mlp").path)
"""


def test_twenty_processes_that_start_together_get_twenty_folders() -> None:
    command = [sys.executable, "-c", CLAIM]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(20)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    folders = {process.communicate()[0].strip() for process in processes}
    assert folders == {f"logs/mlp/version_{number}" for number in range(20)}
