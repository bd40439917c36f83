"""What every test shares: a workspace of its own and one computing thread per test process."""

from pathlib import Path

import pytest
import torch

from tests.paths import GOLDEN

torch.set_num_threads(1)


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
