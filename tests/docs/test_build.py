"""The documentation builds without a warning, asks nothing of any network, and names only what is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tal_core.cli import commands_table
from tests.paths import ROOT

pytestmark = pytest.mark.lint
PAGES = sorted((ROOT / "docs").rglob("*.md"))
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FOREIGN = re.compile(
    r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=["']?(?:https?:)?//(?!zensical\.org)[^>]*>"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built in a copy."""
    copy = tmp_path_factory.mktemp("docs")
    shutil.copy(ROOT / "zensical.toml", copy)
    shutil.copytree(ROOT / "docs", copy / "docs")
    (copy / "tal_core").symlink_to(ROOT / "tal_core")
    build = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(build, cwd=copy, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy / "site"


def test_it_builds_without_a_warning(site):
    assert len(list(site.rglob("*.html"))) > len(PAGES)  # 404.html, too


def test_pages_load_nothing_from_elsewhere(site):
    loaded = {page.name: _FOREIGN.findall(page.read_text()) for page in site.rglob("*.html")}
    assert not {name: found for name, found in loaded.items() if found}


def test_every_page_is_in_the_menu():
    menu = (ROOT / "zensical.toml").read_text()
    assert not [page.name for page in PAGES if f'"{page.relative_to(ROOT / "docs")}"' not in menu]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    targets = [link.partition("#")[0] for link in _LINK.findall(text)]
    inside = [
        target for target in targets if target and not target.startswith(("http:", "https:", "mailto:"))
    ]
    assert not [target for target in inside if not (page.parent / target).exists()]


def test_the_readme_is_short_and_says_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 170
    assert "\npip install -r requirements.txt && streamlit run app.py\n" in text
    assert "\npip install -r requirements-dev.txt && pytest\n" in text


def test_the_table_of_commands_is_the_parser_s():
    page = (ROOT / "docs" / "commands.md").read_text()
    assert commands_table() in page, (
        "paste: python -c 'from tal_core.cli import commands_table as t; print(t())'"
    )


def test_the_map_of_the_code_names_only_what_is_there():
    text = (ROOT / "docs" / "architecture.md").read_text()
    files = re.findall(r"^\| [^|]+ \| `([^`]+\.\w+)` \|$", text, flags=re.M)
    rooms = re.findall(r"^\| `([^`]+)` \|", text, flags=re.M)
    assert len(files) >= 15
    assert len(rooms) >= 15
    assert not [name for name in files + rooms if not (ROOT / name).exists()]
