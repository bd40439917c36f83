"""The package: what a wheel holds, and that it works outside the checkout; pins and ranges agree."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import tal_core
from tal_core.commands.app import studio
from tests.paths import ROOT

pytestmark = pytest.mark.lint
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OWN = PROJECT["name"]


def ranges(*lines: str) -> dict[str, Requirement]:
    """Requirements by name; those on extras of the package itself are left out."""
    found = [Requirement(line) for line in lines]
    return {requirement.name: requirement for requirement in found if requirement.name != OWN}


def pins(name: str) -> dict[str, str]:
    """Exact versions in a requirements file, of that file alone."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("-r")]
    return {requirement.name: str(requirement.specifier).removeprefix("==") for requirement in found}


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("requirements.txt", ranges(*PROJECT["dependencies"], *EXTRAS["app"])),
        ("requirements-video.txt", ranges(*EXTRAS["video"])),
        ("requirements-export.txt", ranges(*EXTRAS["export"])),
    ],
)
def test_pins_are_the_ranges_names_and_within_them(name, allowed):
    assert set(pins(name)) == set(allowed)
    assert not [p for p, version in pins(name).items() if version not in allowed[p].specifier]


def test_pins_of_the_developers_tools_are_within_their_ranges():
    allowed = {name: range_ for extra in EXTRAS.values() for name, range_ in ranges(*extra).items()}
    tools = pins("requirements-dev.txt")
    assert set(ranges(*EXTRAS["dev"])) <= set(tools) <= set(allowed)
    assert not [p for p, version in tools.items() if version not in allowed[p].specifier]


def test_one_version_everywhere():
    assert "version" in PROJECT["dynamic"]
    assert f"\nversion: {tal_core.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{tal_core.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder outside the checkout with the wheel in it, to be put on the path."""
    folder = tmp_path_factory.mktemp("package")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True, timeout=120)
    wheel = next(folder.glob("*.whl"))
    site = folder / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True, text=True, timeout=120)
    return site


def outside(site: Path, *command: str, **environment: str) -> str:
    """What a command prints that sees the installed package and not the checkout."""
    done = subprocess.run(
        command,
        cwd=site.parent,
        env={**os.environ, "PYTHONPATH": str(site), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_code_assets_and_studio_and_nothing_else(installed):
    names = set(zipfile.ZipFile(next(installed.parent.glob("*.whl"))).namelist())
    assert {name.split("/")[0] for name in names} == {
        "tal_core",
        f"tal_studio-{tal_core.__version__}.dist-info",
    }
    assets = {path.relative_to(ROOT) for path in (ROOT / "assets").rglob("*") if path.is_file()}
    assert {f"tal_core/{path}" for path in assets} <= names
    assert {"tal_core/py.typed", "tal_core/studio/app.py", "tal_core/studio/.streamlit/config.toml"} <= names


def test_it_imports_and_says_its_version(installed):
    code = "import tal_core, json; print(json.dumps([tal_core.__version__, tal_core.__file__]))"
    version, where = json.loads(outside(installed, sys.executable, "-c", code))
    assert version == tal_core.__version__
    assert Path(where).is_relative_to(installed)
    assert outside(installed, str(installed / "bin" / "tal"), "--version") == f"tal {version}\n"


def test_it_trains_on_the_demo(installed, home):
    outside(
        installed,
        *(str(installed / "bin" / "tal"), "train", "--dataset", "demo", "--model", "baseline"),
        *("--set", "epochs=1", "--run-id", "first"),
        TAL_HOME=str(home),
    )
    status = json.loads((home / "runs" / "first" / "status.json").read_text())
    evaluation = json.loads((home / "runs" / "first" / "evaluation.json").read_text())
    assert status["state"] == "finished"
    assert evaluation["num_ground_truth"] == 147
    assert 0.05 < evaluation["average_mAP"] < 1


def test_it_trains_in_the_background(installed, home):
    code = """
import time
from pathlib import Path
from tal_core.models.settings import build_config
from tal_core.runs.run import create_run
from tal_core.training.launch import start
from tal_core.workspace import home
run = create_run(home(), "demo", "baseline", build_config("baseline", {"epochs": 1}), "behind")
start(home(), run)
while run.status()["state"] in ("running", "created"):
    time.sleep(0.2)
print(run.status()["state"])
"""
    assert outside(installed, sys.executable, "-c", code, TAL_HOME=str(home)) == "finished\n"


def test_app_starts_streamlit_where_its_settings_are(home, monkeypatch):
    started: list[tuple] = []
    monkeypatch.setattr("os.execve", lambda *arguments: started.append(arguments))
    monkeypatch.chdir(ROOT / "tests")
    from tal_core.cli import main

    assert main(["app", "--port", "8600", "--no-browser"]) == 0
    ((_, command, environment),) = started
    assert " ".join(command[1:]) == "-m streamlit run app.py --server.port 8600 --server.headless true"
    assert environment["TAL_HOME"] == str(home)
    assert Path.cwd() == studio() == ROOT


def test_app_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    from tal_core.cli import main

    assert main(["app"]) == 2
    assert "pip install 'tal-studio[app]'" in capsys.readouterr().err
