"""A study: a run for each variant and seed, which is found on disk, resumed or trained."""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from pytorch_lightning import Callback

from cifar_lab.data.image_set import SYNTHETIC_NOTE
from cifar_lab.devices import use_threads
from cifar_lab.errors import TrainingEndedError, UserError
from cifar_lab.experiments.tables import mean_and_deviation
from cifar_lab.experiments.workers import share_of_machine, side_by_side
from cifar_lab.files import explained, shown
from cifar_lab.plan import Plan, decisive
from cifar_lab.recipes.own_model import is_own_model
from cifar_lab.run.folder import LockedError, RunFolder, folder_of_runs, locked, run_folders
from cifar_lab.run.resume import ResumePoint
from cifar_lab.run.run import Run
from cifar_lab.run.summary import POINT_NAMES
from cifar_lab.training import fit
from cifar_lab.training.processes import Environment
from cifar_lab.training.trainer import device_count

Job = tuple[str, Plan]  # name of a variant, and the plan of one of its runs
PAUSE = 2.0  # seconds between looks at the runs that other processes train


@dataclass
class Study:
    """Several plans with several seeds each, and a run for each of them.

    The newest finished run in the log folder with the same images and decisive settings is used.
    If there is none, the newest unfinished one is resumed; otherwise a new run is trained.

    Attributes:
        variants: plans by name; their seeds are replaced.
        seeds: seeds of all variants, or the seeds of each variant by its name.
        command: command that started the study, for the summaries of its runs.
        anew: whether unfinished runs are trained again: a resumed one would lack measurements.
        file: name of a file that the folder of a finished run must hold, or "".
        callbacks: function that returns further callbacks for a new run.
        workers: number of processes that train at the same time on this machine.

    Several processes may work on the same study, even on several machines that share the log
    folder. Each run is trained by one of them, and all wait for all runs.
    """

    variants: Mapping[str, Plan]
    seeds: Sequence[int] | Mapping[str, Sequence[int]]
    command: str
    anew: bool = False
    file: str = ""
    callbacks: Callable[[], Sequence[Callback]] = tuple
    workers: int = 1
    _known: dict[Path, Run] = field(default_factory=dict, init=False)

    def plans(self) -> Iterator[tuple[str, Plan]]:
        """Yield the name and the plan of each run."""
        for name, plan in self.variants.items():
            seeds = self.seeds[name] if isinstance(self.seeds, Mapping) else self.seeds
            for seed in seeds:
                yield name, plan.replace(seed=seed)

    def runs(self, train: bool = True) -> dict[str, list[Run]]:
        """Return the runs of each variant; without ``train``, only those that exist.

        Raises:
            UserError: Settings, data or a run are wrong, or the runs saw different images.
            TrainingEndedError: A run failed or was interrupted.
        """
        images = self.images if train else None  # without training they need not be there
        jobs = dict(enumerate(self.plans()))
        done: dict[int, Run] = {}
        for number, (name, plan) in jobs.items():
            if run := self.find(plan, images):
                print(f"\n--- {_label(name, plan)} is already trained: {run.path}", flush=True)
                done[number] = run
        if train:
            done |= self._obtain_all({n: job for n, job in jobs.items() if n not in done})
        found: dict[str, list[Run]] = {}
        for number in sorted(done):
            found.setdefault(jobs[number][0], []).append(done[number])
        seen = {run.summary["data"]["fingerprint"] for several in found.values() for run in several}
        if len(seen) > 1:
            raise UserError(
                f"the runs saw different images (fingerprints {', '.join(sorted(seen))}); give "
                "another --log_dir, so that they are kept apart"
            )
        return found

    @cached_property
    def images(self) -> str:
        """The fingerprint of the images that the runs are trained on.

        Synthetic images are refused where a run on real ones exists.
        """
        _, plan = next(self.plans())
        _check_settings(plan)
        data = fit.load_data(plan)
        if data.image_set.source == "synthetic" and plan.settings.source == "auto":
            run = self.find(plan)
            if run is not None and run.summary["data"]["source"] != "synthetic":
                where = run.summary["data"]["location"]
                raise UserError(
                    f"{run.path}: trained on images of {where}, which are not found now; give "
                    "their folder as --data_dir, or use --source synthetic"
                )
        return data.image_set.fingerprint

    def find(self, plan: Plan, images: str | None = None) -> Run | None:
        """Return the newest finished run of a plan, or None.

        ``images`` is the fingerprint of the images that it was trained on; None for any images.
        """
        wanted = plan.decisive()
        for run in self._newest_first(plan):
            try:
                if not run.finished or decisive(run.config) != wanted:
                    continue
                is_seen = images in (None, run.summary["data"]["fingerprint"])
                if is_seen and (run.path / self.file).exists():
                    return run
            except UserError as error:
                told = f"a damaged run: {error}; remove {run.path} to train it again"
                raise UserError(told) from error
        return None

    def _obtain_all(self, jobs: Mapping[int, Job]) -> dict[int, Run]:
        """Return the finished run of each job; wait for those that other processes train."""
        done = self._side_by_side(jobs) if self.workers > 1 and len(jobs) > 1 else {}
        is_told = False
        while left := {number: job for number, job in jobs.items() if number not in done}:
            tried = {n: self.obtain(plan, _label(name, plan)) for n, (name, plan) in left.items()}
            found = {number: run for number, run in tried.items() if run is not None}
            done |= found
            if found:
                continue
            if not is_told:
                print("waiting for runs that other processes train", file=sys.stderr, flush=True)
                is_told = True
            time.sleep(PAUSE)
        return done

    def _side_by_side(self, jobs: Mapping[int, Job]) -> dict[int, Run]:
        """Return the runs that worker processes have trained."""
        workers = min(self.workers, len(jobs))
        done: dict[int, Run] = {}
        alone = replace(self, variants={}, seeds=())
        alone.images = self.images
        plans = [(n, share_of_machine(plan, self.workers)) for n, (_, plan) in jobs.items()]
        print(f"\n--- training {len(jobs)} runs, {workers} at a time", flush=True)
        for (number, plan), path in side_by_side(partial(_obtain, alone), plans, workers):
            if path is not None:
                print(f"--- {_label(jobs[number][0], plan)} is done: {path}", flush=True)
                done[number] = Run(RunFolder.at(path), plan.own_model)
        return done

    def obtain(self, plan: Plan, label: str = "") -> Run | None:
        """Return the finished run of a plan, trained if it is missing.

        Return None if another process trains it.
        """
        folder = folder_of_runs(plan.settings.log_dir)
        text = f"{sorted(plan.decisive().items())} {self.images}"
        lock = folder / f".{hashlib.sha256(text.encode()).hexdigest()[:16]}.lock"
        with explained(f"log_dir {shown(folder)}: cannot be written, give another --log_dir"):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with locked(lock, "another process trains it"):
                if run := self.find(plan, self.images):
                    return run
                print(f"\n--- training {label}", flush=True)
                return self.train(plan)
        except LockedError:
            return None

    def train(self, plan: Plan) -> Run:
        """Train a plan, or resume an unfinished run of it; return the finished run."""
        point = None if self.anew else self._resume_point(plan)
        outcome = fit.train(plan, point, command=self.command, callbacks=self.callbacks())
        if outcome.status or outcome.run is None:
            raise TrainingEndedError(outcome.message, outcome.status)
        return outcome.run

    def _resume_point(self, plan: Plan) -> ResumePoint | None:
        """Return the last checkpoint of the newest unfinished run of a plan, or None."""
        wanted = plan.decisive()
        for run in self._newest_first(plan):
            folder, point = run.folder, ResumePoint(run.folder.last_checkpoint)
            is_there = folder.config.exists() and point.path.exists()
            if run.finished or not is_there or folder.is_locked:  # another process trains it
                continue
            try:
                if decisive(run.config) != wanted:
                    continue
                if point.content["cifar_lab"]["data"].get("fingerprint") == self.images:
                    return point
            except UserError as error:
                print(f"{run.path} is not resumed: {error}", file=sys.stderr)
        return None

    def _newest_first(self, plan: Plan) -> Iterator[Run]:
        """Yield the runs in the log folder of a plan, each the same object every time."""
        model = plan.recipe.model if is_own_model(plan.recipe.model) else None
        for folder in reversed(run_folders(folder_of_runs(plan.settings.log_dir))):
            yield self._known.setdefault(folder.path, Run(folder, model))


def _obtain(study: Study, job: tuple[int, Plan]) -> Path | None:
    run = study.obtain(job[1])
    return None if run is None else run.path


def _label(name: str, plan: Plan) -> str:
    return f"{name}, seed {plan.settings.seed}" if name else f"seed {plan.settings.seed}"


def _check_settings(plan: Plan) -> None:
    """Refuse a trial run, and several processes: all but one would exit after the first run."""
    settings = plan.settings
    if settings.fast_dev_run:
        raise UserError("--fast_dev_run and --seeds: give one of them")
    processes = device_count(settings.devices, settings.accelerator) * settings.num_nodes
    if processes > 1:
        raise UserError(
            "--devices and --num_nodes: the runs of a study are each trained by one process, "
            f"these ask for {processes}"
        )
    Environment(1, 1)  # refuses a launcher of several
    use_threads(settings.threads)


def table_of_seeds(runs: Sequence[Run]) -> str:
    """Return the accuracies of runs, mean ± sample standard deviation, as lines for people."""
    summaries = [run.summary for run in runs]
    seeds = ", ".join(str(summary["seed"]) for summary in summaries)
    lines = [f"\nseeds {seeds}, mean ± standard deviation"]
    if summaries[0]["data"]["source"] == "synthetic":
        lines.append(SYNTHETIC_NOTE)
    for split, points in summaries[0]["accuracy"].items():
        for which in filter(points.__contains__, POINT_NAMES):
            values = [summary["accuracy"][split][which] for summary in summaries]
            title = f"{split} accuracy, {POINT_NAMES[which]}"
            lines.append(f"  {title:<40}{mean_and_deviation(values)} %")
    return "\n".join(lines)
