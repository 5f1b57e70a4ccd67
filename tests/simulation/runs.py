"""Runs of seeds, one after the other or in several processes, and what came of each."""

import gc
import multiprocessing
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import partial

from tests.simulation import mutations
from tests.simulation.exchange import Exchange
from tests.simulation.kernel import Result

SHOWN_EVENTS = 60


def run_seed(seed: int, mutation: str = "", traced: bool = False) -> Result:
    """Run a seed and return what came of it."""
    exchange = Exchange(seed)
    error = ""
    with mutations.planted(mutation) if mutation else nullcontext():
        try:
            exchange.run()
        except Exception as found:
            error = f"{type(found).__name__}: {found}"
            if traced:
                error = "".join(traceback.format_exception(found)[-6:])
    kernel = exchange.kernel
    if error:
        events = "\n".join("    " + " ".join(map(str, event)) for event in list(kernel.trace)[-SHOWN_EVENTS:])
        told = f"{exchange.profile}\n  {again(seed, mutation)}"
        error = f"seed {seed} failed: {error}\n  the last events:\n{events}\n  {told}"
    return Result(seed, error, kernel.digest, kernel.turns, kernel.now, Counter(kernel.seen))


def again(seed: int, mutation: str = "") -> str:
    """Return the command that repeats a seed."""
    return f"repeat it: python -m tests.simulation --seed {seed}" + (f" --mutation {mutation}" if mutation else "")


def results(seeds: Iterable[int], processes: int = 1, mutation: str = "", traced: bool = False) -> Iterator[Result]:
    """Yield the results of seeds as they come."""
    run = partial(run_collected, mutation=mutation, traced=traced)
    if processes == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=5)


def run_collected(seed: int, mutation: str, traced: bool) -> Result:
    """Run a seed, with garbage collected between seeds only."""
    gc.disable()
    try:
        return run_seed(seed, mutation, traced)
    finally:
        gc.enable()
        if seed % 10 == 0:
            gc.collect()
