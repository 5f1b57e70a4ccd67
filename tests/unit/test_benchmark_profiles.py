"""What the benchmarks make of profilers' output, and of a machine that has none."""

import os
import shutil

import pytest

from benchmarks.profiles import library, profile, read_stacks


def test_stacks_are_counted_by_function_itself_and_with_what_it_calls() -> None:
    own, whole = read_stacks(
        "main (daemons/logger.py);write (lib/exchange/store/rows.py);add (lib/exchange/store/rows.py) 3\n"
        "main (daemons/logger.py);write (lib/exchange/store/rows.py) 2\n"
        "main (daemons/logger.py);main (daemons/logger.py) 1\n"
        "py-spy> a line of another kind\n"
    )
    assert own == {"rows.add": 3, "rows.write": 2, "logger.main": 1}
    assert whole == {"logger.main": 6, "rows.write": 5, "rows.add": 3}


@pytest.mark.parametrize(
    ("dso", "name"),
    [
        ("[kernel.kallsyms]", "kernel"),
        ("/usr/lib/libpython3.11.so.1.0", "libpython3"),
        ("/x/libzmq-1a2b.so.5.2.5", "libzmq"),
        ("/x/postgres", "postgres"),
        ("/x/lib/python3.11/site-packages/msgspec/_core.cpython-311-x86_64-linux-gnu.so", "msgspec"),
    ],
)
def test_a_shared_object_is_known_by_its_name(dso: str, name: str) -> None:
    assert library(dso) == name


def test_without_profilers_the_tables_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    loads: list[float] = []
    tables = profile({"order_handler": os.getpid()}, 1, loads.append)
    assert [table.rows for table in tables] == [
        [["perf is not installed"]],
        [["py-spy is not installed: pip install -e '.[profile]'"]],
    ]


def test_a_profiler_that_may_not_look_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/bin/false")
    tables = profile({"order_handler": os.getpid()}, 1, lambda seconds: None)
    assert [table.rows for table in tables] == [[["perf: status 1"]], [["py-spy: status 1"]]]
