import os
import stat

import pytest

from tal_core.types import InputError
from tal_core.workspace import check_name, write_json, write_text


def test_home_follows_the_environment(home, monkeypatch, tmp_path):
    from tal_core import workspace

    assert workspace.home() == home.resolve()
    monkeypatch.delenv("TAL_HOME")
    monkeypatch.chdir(tmp_path)
    assert workspace.home() == tmp_path.resolve() / "workspace"


def test_a_failed_write_keeps_the_old_file_and_leaves_no_scraps(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"state": "running"})
    with pytest.raises(ValueError):
        write_json(path, {"loss": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == '{\n  "state": "running"\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_files_are_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "shared with a colleague")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(InputError, match=r"runs.*can't be written.*TAL_HOME"):
        write_text(tmp_path / "runs" / "one" / "config.json", "{}")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-option", "x" * 81, "tab\there", "ä"])
def test_names_that_could_leave_the_folder_are_refused(name):
    with pytest.raises(InputError, match="can't be the name of a dataset"):
        check_name(name, "dataset")


def test_ordinary_names_pass():
    assert check_name("thumos14_i3d-v1.2", "dataset") == "thumos14_i3d-v1.2"
