"""Where a benchmark ran: what a figure depends on and does not say."""

import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import zmq

from exchange.config import PROJECT
from exchange.store.binaries import installed


def describe_machine(data: Path | None = None) -> dict[str, Any]:
    """Return the machine and the versions of what takes part; `data` is the folder that the exchange's data is in."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _cpu(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
        "msgspec": _version("msgspec"),
        "psycopg": _version("psycopg"),
        "postgresql": _postgresql(),
        "filesystem": _filesystem(data or Path(tempfile.gettempdir())),
        "load_average_before": load_average(),
    }


def load_average() -> list[float]:
    """Return how many processes wanted to run, averaged over 1, 5 and 15 minutes."""
    return [round(each, 2) for each in os.getloadavg()]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _output(*command: str) -> str:
    """Return what a command prints, stripped; "" where it can't be run or fails."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, cwd=PROJECT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _commit() -> str:
    """Return the commit that is checked out, and whether files differ from it."""
    commit = _output("git", "rev-parse", "--short=10", "HEAD")
    changed = _output("git", "status", "--porcelain", "--untracked-files=no")
    return f"{commit or 'unknown'}{' with changes' if changed else ''}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _postgresql() -> str:
    """Return the version of the PostgreSQL that an embedded server runs."""
    found = installed()
    return found[0].version if found else "unknown"


def _filesystem(folder: Path) -> str:
    """Return the type of the filesystem that a folder is on, and of what device."""
    described = _output("df", "--output=fstype,source", str(folder)).splitlines()[-1:]
    return " on ".join(described[0].split()) if described else f"unknown ({sys.platform})"
