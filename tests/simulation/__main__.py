"""Run seeds: `python -m tests.simulation --seed N`, or `--seeds A-B --processes 2` for as many as there is time for."""

import argparse
import sys
import time
from collections import Counter

from tests.simulation import mutations
from tests.simulation.runs import results

REPORT_SECONDS = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run one seed, and show what led to a failure")
    parser.add_argument("--seeds", help="run the seeds from A to B, given as A-B", default="1-300")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--mutation", default="", help=f"plant a bug: {', '.join(mutations.MUTATIONS)}")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first seed that fails")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        first = last = arguments.seed
    else:
        first, last = map(int, arguments.seeds.split("-"))
    seen: Counter[str] = Counter()
    began = told = time.monotonic()
    failures = done = turns = 0
    seconds = 0.0
    seeds = range(first, last + 1)
    for result in results(seeds, arguments.processes, arguments.mutation, traced=first == last):
        done += 1
        turns += result.turns
        seconds += result.seconds
        seen.update(result.seen)
        if result.error:
            failures += 1
            print(result.error, flush=True)
            if not arguments.go_on:
                break
        if time.monotonic() - told > REPORT_SECONDS:
            told = time.monotonic()
            print(
                f"{done} of {last - first + 1} seeds, {done / (told - began):.1f} a second", file=sys.stderr, flush=True
            )
    took = time.monotonic() - began
    print(f"{done} seeds, {failures} failed: {took:.1f} s, {turns} turns, {seconds:.0f} simulated seconds")
    for name, count in sorted(seen.items()):
        print(f"{count:9} {name}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
