"""Imports point one way, so that the core stays a pure function and the parts can be read one at a time."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import PROJECT

LIBRARY = PROJECT / "lib"
CORE = "exchange.core"
PACKAGES = ("core", "pipeline", "store", "client", "audit")

# What the core may take from outside: types and containers. No socket, clock, file, log, or randomness.
PURE = {"array", "bisect", "collections", "heapq", "itertools", "msgspec", "re", "sortedcontainers", "typing"}

# The modules of the library that each package may import, besides its own. A package's name stands for all in it.
MAY_IMPORT = {
    "core": (),
    "pipeline": (CORE, "exchange.config", "exchange.folders", "exchange.status"),
    "store": (CORE, "exchange.config", "exchange.folders", "exchange.status"),
    # An audit that used the code it audits would make its mistakes.
    "audit": (CORE, "exchange.config", "exchange.folders", "exchange.status"),
    # A client knows the messages and what an asset is, nothing of how either is made; an operator's command, besides,
    # the files and the supervisord of the exchange on this machine.
    "client": (
        "exchange.core.messages",
        "exchange.core.admin_messages",
        "exchange.core.asset",
        "exchange.config",
        "exchange.folders",
        "exchange.listing",
        "exchange.status",
        "exchange.supervision",
    ),
}
# What a module that stands beside the packages, such as `exchange.config`, may import.
BESIDE_THE_PACKAGES = (
    "exchange.core.asset",
    "exchange.core.risk",
    "exchange.assets_file",
    "exchange.config",
    "exchange.folders",
    "exchange.hosts",
    "exchange.status",
    "exchange.supervision",
)


def modules(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, wherever in it; of `from a import b`, `a.b` where that is a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if is_module(inner) else node.module)
    return names


def is_module(name: str) -> bool:
    path = Path(*name.split("."))
    return any((root / path).with_suffix(".py").is_file() or (root / path).is_dir() for root in (LIBRARY, PROJECT))


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def ours(path: Path) -> set[str]:
    """Return the project's own modules that a file imports."""
    own = ("exchange", "daemons", "tests", "benchmarks")
    return {name for name in imported(path) if within(name, own)}


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


LIBRARY_FILES = {name_of(path): path for path in modules(LIBRARY / "exchange")}
CORE_FILES = {name: path for name, path in LIBRARY_FILES.items() if name.startswith("lib/exchange/core/")}


def test_the_root_of_the_library_imports_nothing() -> None:
    assert imported(LIBRARY / "exchange" / "__init__.py") == set()


def test_there_are_files_to_look_at() -> None:
    assert {path.parent.name for path in LIBRARY_FILES.values()} >= {*PACKAGES}
    assert len(CORE_FILES) >= 8


@pytest.mark.parametrize("name", CORE_FILES)
def test_the_core_takes_nothing_from_outside_but_types_and_containers(name: str) -> None:
    roots = {module.split(".")[0] for module in imported(CORE_FILES[name])} - {"exchange"}
    assert roots <= PURE


@pytest.mark.parametrize("name", LIBRARY_FILES)
def test_a_package_imports_only_what_it_may(name: str) -> None:
    path = LIBRARY_FILES[name]
    package = path.relative_to(LIBRARY / "exchange").parts[0]
    allowed = (f"exchange.{package}", *MAY_IMPORT[package]) if package in MAY_IMPORT else BESIDE_THE_PACKAGES
    found = ours(path) - {"exchange"}  # the root itself holds the version and nothing else
    assert {module for module in found if not within(module, allowed)} == set()


@pytest.mark.parametrize("name", LIBRARY_FILES)
def test_the_library_imports_no_program(name: str) -> None:
    assert {module for module in ours(LIBRARY_FILES[name]) if not within(module, ("exchange",))} == set()


@pytest.mark.parametrize("name", [name_of(path) for path in modules(PROJECT / "daemons")])
def test_a_daemon_imports_the_library_only(name: str) -> None:
    found = ours(PROJECT / name)
    assert {module for module in found if not within(module, ("exchange",))} == set()
    assert {module for module in found if within(module, ("exchange.client",))} == set(), "a daemon is no client"


@pytest.mark.parametrize("name", [name_of(path) for path in modules(PROJECT / "benchmarks")])
def test_a_benchmark_runs_daemons_as_processes_and_imports_none(name: str) -> None:
    """Of the tests it may import how they start a database, daemons and hosts, and make requests: it needs the same."""
    found = {module for module in ours(PROJECT / name) if within(module, ("daemons", "tests"))}
    starting = {"daemons", "database", "namespaces", "spread", "support"}
    assert found <= {"tests.random_requests", *(f"tests.{name}" for name in starting)}


def test_what_is_pure_is_in_the_standard_library_or_msgspec() -> None:
    assert PURE - {"msgspec", "sortedcontainers"} <= sys.stdlib_module_names
