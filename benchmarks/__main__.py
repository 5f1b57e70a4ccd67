"""All of the benchmarks: `python -m benchmarks`, which is what `make bench` does.

Each part runs in a process of its own, one after the other, and prints its figures as they are there; in the end come
those of which something is asked. All results go to a file (`--json`), from which `python -m benchmarks.report FILE`
makes the figures of docs/performance.md; with `--docs` that follows at once. The exit status is 1 where a part failed,
not where a figure is low.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Timer
from typing import Any

from benchmarks import report
from benchmarks.figures import line, results
from benchmarks.machine import describe_machine
from exchange.config import PROJECT

PARTS = ("core", "order_entry", "pipeline", "market_data", "growth", "growth_processes")
RESULTS = PROJECT / "var" / "benchmarks.json"
QUICK_RESULTS = PROJECT / "var" / "benchmarks-quick.json"
MOST_SECONDS = 900.0  # of a part, after which it is ended


def run_part(name: str, quick: bool, folder: Path) -> dict[str, Any] | None:
    """Run one part and return its results, None where it failed; what it prints is shown, but for the JSON."""
    file = folder / f"{name}.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *(["--quick"] if quick else [])]
    print(f"== {name}", flush=True)
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        too_long = Timer(MOST_SECONDS, process.kill)
        too_long.start()
        for text in process.stdout:
            if not text.startswith('{"format"'):
                print(text, end="", flush=True)
        status = process.wait()
        too_long.cancel()
    if status:
        print(f"{name}: failed with status {status}", file=sys.stderr, flush=True)
        return None
    part: dict[str, Any] = json.loads(file.read_text())["parts"][0]
    print(f"   {part['seconds']:g} s", flush=True)
    return part


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"which (default: all): {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"where the results go (default: {RESULTS})")
    parser.add_argument("--docs", action="store_true", help="update docs/performance.md from the results")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such part; there are {', '.join(PARTS)}")
    if options.quick and options.docs:
        parser.error("--docs with --quick: a quick run measures nothing that a page could say")
    file: Path = options.json or (QUICK_RESULTS if options.quick else RESULTS)
    before, start = describe_machine(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        asked_for = options.parts or PARTS
        parts = [run_part(name, options.quick, Path(folder)) for name in asked_for]
    document = results([part for part in parts if part is not None], before)
    document["seconds"] = round(time.monotonic() - start, 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document) + "\n")
    print(f"== asked, {document['seconds']:g} s in all, results in {file}")
    for part in document["parts"]:
        for figure in part["figures"]:
            if "reached" in figure:
                print(line(figure))
    if options.docs:
        report.write(document)
    return 1 if None in parts else 0


if __name__ == "__main__":
    sys.exit(main())
