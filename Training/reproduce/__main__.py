"""``python -m Training.reproduce``: an experiment in, whatever of it was missing and the report out."""

from __future__ import annotations

import argparse

from DiffMaCore.cli.commands import COMMON, Option, add_options, answer
from DiffMaCore.cli.main import program
from DiffMaCore.cli.options import DATASET, experiment_options, read_experiment

PARTS = ("table1", "table2", "figure1", "figure5", "figure7", "calibration", "tokens")

EPILOG = """\
It does what diffma prepare, train (autoencoder and image encoder where the experiment makes its own, embedder, a
denoiser of every model of Table 2), evaluate and python -m benchmarks tokens do, skips what is done already, and
writes OUT/report/index.html, report.md and report.json.

Stopped at any moment, the same command goes on where it was. The report says of everything missing why it is.

examples, from the root of the sources:
  python -m Training.reproduce Task1/brain --config Training/brain.yaml   from the unpacked data set to the report
  python -m Training.reproduce --config Training/heads.yaml   the same on rendered heads, no data set needed
  python -m Training.reproduce --config Training/brain.yaml --plan   only say what is done and what would be run
  python -m Training.reproduce --config mine.yaml --only table1   run nothing, write the report from what is there
  python -m Training.reproduce --config mine.yaml --only figure1 tokens --tokens 196 784

parts of the report (--only), and what each needs run:
  table1        the models' sizes, counted
  table2        every model on the test patients: everything but tokens
  figure1       soft masks: prepare, embedder
  figure5       source, generated, true (Figures 5 and 6): as table2
  figure7       all models over training: prepare, embedder, every model
  calibration   does a high uncertainty mean a large error: as table2
  tokens        time and memory of DiffMa and DiT against the number of tokens"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; importing it imports no torch."""
    parser = argparse.ArgumentParser(
        prog="python -m Training.reproduce",
        description="Run whatever is missing of an experiment, every model of Table 2 included, and write a report:"
        " Tables 1 and 2, Figures 1, 5, 6 and 7, calibration, time and memory against tokens. Research only.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(
        parser,
        *DATASET,
        *experiment_options(),
        Option("--only", nargs="+", choices=PARTS, metavar="PART", help="run only what these need (default: all)"),
        Option("--plan", action="store_true", help="say what is done and what would be run, and run nothing"),
        Option("--tokens", type=int, nargs="+", metavar="N", help="square numbers (default 196 784 3136 12544)"),
        Option("--tokens-size", default="B/2", metavar="SIZE", help="configuration for them (default B/2)"),
        Option("--tokens-rounds", type=int, default=3, metavar="N", help="rounds of the timing (default 3)"),
        *COMMON,
    )
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Reproduce; exit status 1 where a model could not be trained and the report lacks it."""
    experiment, folders = read_experiment(args)
    args.reporter.stage("loading")

    from DiffMaCore.devices import keep_freed_memory
    from Training.reproduce.plan import ReproduceOptions, make_plan, run_plan, tell_plan
    from Training.reproduce.writing import write_report

    keep_freed_memory()
    options = ReproduceOptions(
        datasets=args.dataset,
        split_file=args.split,
        parts=args.only or PARTS,
        tokens=args.tokens or (),
        size=args.tokens_size,
        rounds=args.tokens_rounds,
        device=args.device,
        command=args.words,
    )
    steps = make_plan(experiment, folders, options)
    facts = [{"step": step.key, "title": step.title, "done": step.done or None} for step in steps]
    if args.plan:
        answer(args, {"plan": facts}, tell_plan(steps))
        return 0
    args.reporter.note(tell_plan(steps))
    failures = run_plan(steps, args.reporter)
    args.reporter.stage("writing the report")
    page = write_report(experiment, folders, failures)
    text = "\n".join([f"{page} is ready", *(f"{name} is missing: {why}" for name, why in failures.items())])
    answer(args, {"report": str(page), "plan": facts, "failed": failures}, text)
    return 1 if failures else 0


if __name__ == "__main__":
    program(build_parser())
