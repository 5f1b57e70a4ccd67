"""Where the CPU time of each daemon goes, by function, with sampling profilers that the daemons need not know of.

- py-spy (the extra `profile`: pip install -e '.[profile]') tells the Python functions. A C function, such as an
  encoder's, counts for the Python function that calls it.
- perf (the package linux-tools or perf) tells what is spent below: kernel, libzmq and its threads, interpreter, codec.

Where one of them is missing, or not allowed to look, its table says so and the rest goes on. They slow down what they
look at (py-spy stops it for a moment at each sample), so a profile is a run of its own, and gives shares, not times.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.figures import Table

SPY_RATE = 200  # samples a second
PERF_RATE = 499
FUNCTIONS = 10  # of each daemon in the table
BELOW = 6  # functions below Python, likewise
PARTS = 8
PACKAGES = "site-packages"
START_SECONDS = 0.5  # until a profiler looks
END_SECONDS = 30.0
SAMPLE = re.compile(r"\s*(\d+)\s+[0-9a-f]+ (.+) \((.+)\)$")
FRAME = re.compile(r"(.+) \((.+)\)$")


class Profilers:
    """Profilers that look at processes for some seconds from `start` on; `tables` waits for their end."""

    def __init__(self, pids: Mapping[str, int], seconds: int, folder: Path) -> None:
        self.pids, self.seconds, self.folder = pids, seconds, folder
        self.running: dict[str, subprocess.Popen[str]] = {}

    def start(self) -> None:
        raise NotImplementedError

    def tables(self) -> list[Table]:
        raise NotImplementedError

    def _start(self, name: str, *command: str) -> None:
        self.running[name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def _end(self, name: str) -> str:
        """Wait for a profiler; return "" where it has done its work, else why not."""
        process = self.running[name]
        try:
            _, errors = process.communicate(timeout=self.seconds + END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return f"it did not end within {self.seconds + END_SECONDS:g} s"
        return "" if process.returncode == 0 else " ".join(errors.split())[-200:] or f"status {process.returncode}"


class PythonFunctions(Profilers):
    """py-spy: the Python functions of each daemon."""

    def start(self) -> None:
        program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if program is None:
            return
        for name, pid in self.pids.items():
            self._start(
                name,
                *(program, "record", "--pid", str(pid), "--rate", str(SPY_RATE), "--duration", str(self.seconds)),
                *("--format", "raw", "--function", "--output", str(self.folder / f"{name}.spy")),
            )

    def tables(self) -> list[Table]:
        """Return, per daemon, its functions by their own share of its time, with what they call beside."""
        title = "Python functions of"
        if not self.running:
            return [_missing("Python functions", "py-spy is not installed: pip install -e '.[profile]'")]
        tables = []
        for name in self.running:
            why_not = self._end(name)
            file = self.folder / f"{name}.spy"
            if why_not or not file.exists():
                tables.append(_missing(f"{title} {name}", f"py-spy: {why_not}"))
                continue
            own, whole = read_stacks(file.read_text())
            total = sum(own.values()) or 1
            rows: list[list[str | float]] = [
                [f"`{function}`", f"{count / total:.1%}", f"{whole[function] / total:.1%}"]
                for function, count in own.most_common(FUNCTIONS)
            ]
            tables.append(Table(f"{title} {name}", ["function", "itself", "with what it calls"], rows))
        return tables


def read_stacks(text: str) -> tuple[Counter[str], Counter[str]]:
    """Return the samples of each function itself, and with what it called, of py-spy's raw form."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        if not stack or not samples.isdecimal():
            continue
        functions = [_short(frame) for frame in stack.split(";")]
        own[functions[-1]] += int(samples)
        for function in set(functions):
            whole[function] += int(samples)
    return own, whole


def _short(frame: str) -> str:
    """Return a frame as `module.function`."""
    match = FRAME.match(frame)
    return f"{Path(match[2].partition(':')[0]).stem}.{match[1]}" if match else frame


class Below(Profilers):
    """perf: what of each daemon's time is spent in the kernel, in libzmq, in the interpreter, in which functions."""

    def start(self) -> None:
        program = shutil.which("perf")
        if program is None:
            return
        pids = ",".join(str(pid) for pid in self.processes())
        self._start(
            "perf",
            *(program, "record", "--quiet", "--event", "cpu-clock", "--freq", str(PERF_RATE), "--pid", pids),
            *("--output", str(self.folder / "perf.data"), "--", "sleep", str(self.seconds)),
        )

    def processes(self) -> dict[int, str]:
        """Return each process, those that the daemons started included, and whose it is."""
        owners = {pid: name for name, pid in self.pids.items()}
        children: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(path.parent.name))
        found = list(owners)
        for pid in found:  # which grows as it goes
            for child in children.get(pid, ()):
                owners[child] = owners[pid]
                found.append(child)
        self.owners = owners
        return owners

    def tables(self) -> list[Table]:
        """Return, per daemon, the shares of its time by library and kernel, and the functions below Python."""
        if not self.running:
            return [_missing("Below Python", "perf is not installed")]
        why_not = self._end("perf")
        if why_not:
            return [_missing("Below Python", f"perf: {why_not}")]
        script = subprocess.run(
            ["perf", "script", "--input", str(self.folder / "perf.data"), "--fields", "pid,ip,sym,dso"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=END_SECONDS,
            check=False,
        )
        parts: dict[str, Counter[str]] = {name: Counter() for name in self.pids}
        functions: dict[str, Counter[str]] = {name: Counter() for name in self.pids}
        for line in script.stdout.splitlines():
            match = SAMPLE.match(line)
            if match and int(match[1]) in self.owners:
                name, where = self.owners[int(match[1])], library(match[3])
                parts[name][where] += 1
                functions[name][f"{match[2].partition('+')[0]} ({where})"] += 1
        names = [where for where, _ in sum(parts.values(), Counter[str]()).most_common(PARTS)]
        shares: list[list[str | float]] = [
            [where, *(f"{counted[where] / (counted.total() or 1):.0%}" for counted in parts.values())]
            for where in names
        ]
        tables = [Table("Where each daemon's time is spent", ["", *parts], shares)]
        for name, counted in functions.items():
            rows: list[list[str | float]] = [
                [f"`{function}`", f"{count / counted.total():.1%}"] for function, count in counted.most_common(BELOW)
            ]
            tables.append(Table(f"Functions below Python of {name}", ["function", "itself"], rows))
        return tables


def library(dso: str) -> str:
    """Return whose code a shared object is: the kernel's, a library's by its name, a Python package's, a program's."""
    if dso.startswith("[") or dso.endswith(".ko"):
        return "kernel"
    path = Path(dso)
    name = path.name.partition(".")[0].partition("-")[0]
    if name.startswith("lib") or PACKAGES not in path.parts:
        return name
    return path.parts[path.parts.index(PACKAGES) + 1]


def _missing(title: str, why: str) -> Table:
    return Table(title, ["not profiled"], [[why]])


def _whole(seconds: float) -> int:
    return max(1, round(seconds))


def profile(pids: Mapping[str, int], seconds: float, load: Callable[[float], object]) -> list[Table]:
    """Put a load on the daemons for so many seconds, once for each profiler, and return what they saw."""
    tables: list[Table] = []
    kinds: tuple[type[Profilers], ...] = (Below, PythonFunctions)
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="profile-") as folder:
            # PostgreSQL is no Python; perf sees it.
            looked_at = {name: pid for name, pid in pids.items() if kind is Below or name != "postgres"}
            profilers = kind(looked_at, _whole(seconds), Path(folder))
            profilers.start()
            load(_whole(seconds) + START_SECONDS)
            tables += profilers.tables()
    return tables
