"""``cifar-lab report``: train the lab report's systems; write its figures, table and pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_lab.cli.output import check_writable, writing
from cifar_lab.cli.parser import STUDY_STATUSES, Command
from cifar_lab.errors import UserError
from cifar_lab.settings import PositiveInt, Seed, setting


@dataclass(frozen=True)
class _Options:
    systems: list[str] = setting(["all"], "systems to train, by number or recipe, or all")
    seeds: list[Seed] = setting(
        [], "seeds of the systems [0..9 of the small MLPs, 0..4 of the others; with --quick 0]"
    )
    quick: bool = setting(False, "shorten the recipes, for a quick look")
    workers: PositiveInt = setting(1, "runs to train in parallel")
    log_dir: Path | None = setting(None, "folder for the runs [OUTPUT/runs]")
    no_train: bool = setting(False, "use only the runs that exist")
    reference: Path | None = setting(None, "also write the scalars of the runs to this folder")
    output: Path | None = setting(
        None,
        "folder for the figures, the table and the pages [lightning_logs/report; with --quick "
        "lightning_logs/report-quick]",
    )
    json: bool = setting(False, "print only JSON")


COMMAND = Command(
    "report",
    "Trains the eight systems of the lab report by its protocol, or uses the runs that exist.\n"
    "Writes the report's eight figures (PNG and SVG), results.json with every number, and the\n"
    "pages report.md and report.html, whose table compares the results with the report's.\n\n"
    f"{STUDY_STATUSES}trains what is missing.",
    _Options,
    shared=("accelerator", "precision", "threads", "data_dir", "source"),
    results=True,
    example="--quick --systems mlp,cnn",
)
INTERRUPTED_NOTE = "Interrupted; the same command trains what is missing."


def run(options: Any, given: Mapping[str, str], command: str) -> dict[str, Any]:
    """Run the command; return its results."""
    from cifar_lab.experiments.report import choose, gather, write_reference
    from cifar_lab.experiments.report_page import draw_figures, markdown, write_pages
    from cifar_lab.experiments.study import Study
    from cifar_lab.files import write_json

    name = "report-quick" if options.quick else "report"  # neither overwrites the other
    folder = options.output or Path("lightning_logs") / name
    log_dir = options.log_dir or folder / "runs"
    systems = choose(options.systems)
    plans = {
        system.recipe: system.plan(options.quick).changed({**given, "log_dir": log_dir}, "--")
        for system in systems
    }
    seeds = {
        system.recipe: options.seeds or list(range(1 if options.quick else system.seeds))
        for system in systems
    }
    for flag, place in (("--output", folder), ("--reference", options.reference)):
        check_writable(flag, place and place / "results.json")  # before hours of training
    runs = Study(plans, seeds, command, workers=options.workers).runs(train=not options.no_train)
    if not runs:
        raise UserError(f"{log_dir}: none of the runs exists; omit --no_train to train them")
    results = gather(runs, options.quick)
    with writing("--output", folder / "results.json"):
        write_json(folder / "results.json", results)
        figures = draw_figures(runs, folder)
        pages = write_pages(results, figures, folder, command)
    if options.reference:
        with writing("--reference", options.reference / "mlp"):
            write_reference(runs, options.reference)
    print(f"\n{markdown(results)}\n\nreport: {pages[-1]}\nfigures and results.json: {folder}")
    return {**results, "files": [str(path) for path in (*pages, *figures)]}
