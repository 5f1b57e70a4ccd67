"""Time the tape driver of this checkout against that of an older commit, in turns within one run.

    python -m benchmarks.tape_against COMMIT [--rounds N] FILE.tape[.gz] [...]

Each round runs both drivers on every tape, each in a process of its own, the older first in every other round. Prints
one JSON line a file: both drivers' messages a second (the median of the rounds), and `ratio`, the median over the
rounds of this checkout's speed divided by the older one's: 1.0 is as fast, 0.9 a tenth slower. Fails where the two
give different reports.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from exchange.config import PROJECT


def extract(commit: str, folder: Path) -> None:
    """Put a commit's files into a folder. Raises CalledProcessError where there is no such commit."""
    archive = subprocess.run(
        ["git", "archive", commit, "lib", "benchmarks"], cwd=PROJECT, check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)


def drive(project: Path, file: Path) -> dict[str, object]:
    """Run a checkout's tape driver on one tape and return the figures of its line."""
    environment = os.environ | {"PYTHONPATH": f"{project / 'lib'}:{project}"}
    command = [sys.executable, "-m", "benchmarks.tape", str(file)]
    ran = subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)
    figures: dict[str, object] = json.loads(ran.stdout)
    return figures


def compare(older: Path, file: Path, rounds: int) -> dict[str, object]:
    """Return the figures of one tape's line."""
    speeds: dict[Path, list[float]] = {PROJECT: [], older: []}
    digests = set()
    for number in range(rounds):
        for project in (older, PROJECT) if number % 2 == 0 else (PROJECT, older):
            figures = drive(project, file)
            speeds[project].append(float(str(figures["messages_per_second"])))
            digests.add(figures["sha256"])
    if len(digests) != 1:
        raise SystemExit(f"{file}: the two drivers give different reports: {digests}")
    ratios = [new / old for new, old in zip(speeds[PROJECT], speeds[older], strict=True)]
    return {
        "file": file.name,
        "rounds": rounds,
        "messages_per_second": round(statistics.median(speeds[PROJECT])),
        "older_messages_per_second": round(statistics.median(speeds[older])),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in sorted(ratios)],
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tape_against", description="Two tape drivers in turns.")
    parser.add_argument("commit")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        extract(options.commit, Path(folder))
        for file in options.files:
            print(json.dumps(compare(Path(folder), file.resolve(), options.rounds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
