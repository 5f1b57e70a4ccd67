"""Run seeds: `python -m tests.simulation --seed N`, or `--seeds A-B`."""

import argparse
import sys
import time
import traceback

from tests.simulation.exchange import Exchange, run  # noqa: F401


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds")
    arguments = parser.parse_args()
    first, last = (
        (arguments.seed, arguments.seed) if arguments.seed is not None else map(int, arguments.seeds.split("-"))
    )
    import collections

    from tests.simulation import exchange as module

    seen = collections.Counter()
    began = time.monotonic()
    failures = 0
    import logging

    for seed in range(first, last + 1):
        logging.disable(logging.CRITICAL if arguments.seed is None else 0)
        exchange = module.Exchange(seed)
        try:
            exchange.run()
        except BaseException as error:
            failures += 1
            print(f"seed {seed}: {type(error).__name__}: {str(error)[:600]}")
            if arguments.seed is not None:
                for each in list(exchange.kernel.trace)[-60:]:
                    print("   ", *each)
                traceback.print_exc()
            elif failures > 5:
                break
        seen.update(exchange.kernel.seen)
        seen["turns"] += exchange.kernel.turns
        seen["virtual s"] += int(exchange.kernel.now)
        if arguments.seed is not None:
            print(exchange.profile)
    print(f"{last - first + 1} seeds, {time.monotonic() - began:.1f} s, {failures} failures")
    for name, count in sorted(seen.items()):
        print(f"{count:8} {name}")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
