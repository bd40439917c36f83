"""What every test shares: a workspace of its own and one computing thread per test process."""

from pathlib import Path

import pytest
import torch

from tests.paths import GOLDEN, ROOT

torch.set_num_threads(1)

KINDS = ("browser", "lint", "server", "parity", "integration", "unit")
ROOMS = {
    "browser": "browser",
    "docs": "lint",
    "test_house.py": "lint",
    "test_package.py": "lint",
    "streaming/server": "server",
    "streaming/live": "server",
    "pages": "integration",
    "commands": "integration",
    "inference": "integration",
    "training/test_launch.py": "integration",
    "training/test_loop.py": "integration",
    "training/test_postprocessed_run.py": "integration",
    "training/test_profile.py": "integration",
    "training/test_shipping.py": "integration",
    "video": "integration",
    "test_old_workspace.py": "integration",
}
"""The kind of test in a folder or file; elsewhere tests are unit tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with one kind, unless it says its own."""
    for item in items:
        if any(item.get_closest_marker(kind) for kind in KINDS):
            continue
        name = item.path.relative_to(ROOT / "tests").as_posix()
        kind = next((kind for room, kind in ROOMS.items() if name.startswith(room)), "unit")
        if kind in ("unit", "integration") and "golden" in getattr(item, "fixturenames", ()):
            kind = "parity"
        item.add_marker(kind)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty workspace; no test ever sees the developer's own."""
    folder = tmp_path / "workspace"
    monkeypatch.setenv("TAL_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference inputs and outputs; each part has a README with its origin."""
    return GOLDEN
