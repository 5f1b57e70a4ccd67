"""What holds for every test: which of them may be skipped, and where they must not be."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import OUTSIDE_FOLDERS, PROJECT

SHARED = PROJECT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `shared` where the recorded order flow is absent, but never in continuous integration.

    There (CI is set, as every such service does) they run and fail: a green run has run everything.
    """
    if SHARED.is_dir() or os.environ.get("CI"):
        return
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(pytest.mark.skip(reason=f"there is no {SHARED} with recorded order flow"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        pytest.fail(
            f"there is no {SHARED} with recorded order flow, and CI is set: nothing may be skipped", pytrace=False
        )


def pytest_sessionfinish() -> None:
    """Remove what exchanges in folders with long paths have left elsewhere."""
    for folder in OUTSIDE_FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Yield a new folder that every user can pass through: started by root, PostgreSQL runs as another one."""
    folder = Path(tempfile.mkdtemp(prefix="exchange-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
