"""``python -m bench.chaos``: prints what was done and what it cost; fails where a promise broke."""

import argparse
import asyncio
import sys
from pathlib import Path

from bench.chaos.plan import Options
from bench.chaos.report import details, figures
from bench.chaos.run import Outcome, run, run_folder
from bench.figure import table

QUICK = {"kills": 5, "jobs": 60, "lease_seconds": 3.0, "workers": 2, "apis": 1, "engines": 2}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--database", default="sqlite://", metavar="URL", help="a server")
    parser.add_argument("--kills", type=int, help="SIGKILLs; a third as many other blows (200)")
    parser.add_argument("--jobs", type=int, help="jobs to submit meanwhile (10000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lease", type=float, dest="lease_seconds", help="seconds (15)")
    parser.add_argument("--quick", action="store_true", help="5 kills, 60 jobs, lease of 3 s")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave logs and files there")
    chosen = parser.parse_args()
    options = options_of(**{n: v for n, v in vars(chosen).items() if v is not None and n != "keep"})
    with run_folder(chosen.keep) as folder:
        outcome = asyncio.run(run(options, folder))
    print(told(outcome, options))
    if broken(outcome, options):
        sys.exit(1)


def options_of(*, quick: bool = False, **given: object) -> Options:
    defaults = {**QUICK, "seconds_per_kill": 1.2, "drain_seconds": 60.0} if quick else {}
    return Options(**{**defaults, "quick": quick, **given})  # type: ignore[arg-type]


def told(outcome: Outcome, options: Options) -> str:
    """What was done, the table, and examples of what went wrong."""
    striker = outcome.striker
    done = ", ".join(f"{count} {kind}" for kind, count in sorted(striker.done.items()))
    left = ", ".join(f"{count} {kind}" for kind, count in sorted(striker.skipped.items()))
    lines = [
        f"{len(outcome.ledger.accepted)} jobs, {striker.sigkills} processes killed,"
        f" seed {options.seed}, lease {options.lease_seconds:g} s:"
        f" {outcome.seconds:.0f} s, of which {outcome.drain_seconds:.0f} s at the end",
        f"done: {done}",
        f"left out, its target was away already: {left or 'none'}",
        f"stopped by SIGTERM only when killed: {striker.unclean_stops}",
        "",
        table(figures(outcome.verdict, outcome.ledger, options)),
        *details(outcome.verdict, outcome.ledger),
    ]
    return "\n".join(lines)


def broken(outcome: Outcome, options: Options) -> bool:
    rows = figures(outcome.verdict, outcome.ledger, options)
    return any(row.met is False for row in rows)


if __name__ == "__main__":
    main()
