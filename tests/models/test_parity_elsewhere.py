"""The networks give the references' numbers on other processors and with other numbers of threads too."""

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

# Other instructions than this processor's newest, and sums in the order of a single thread.
PLACES = {
    "without AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "2"},
    "one thread": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
}


@pytest.mark.parametrize("place", PLACES)
def test_parity_holds(place):
    environment = os.environ | PLACES[place]
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "parity", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "tests/models"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-4000:]
    assert " passed" in result.stdout or "100%" in result.stdout
