import pytest

from tal_core.cli import main
from tests.video.films import moving_patch, write_film


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    write_film(folder / "a.mp4", [moving_patch(k / 12.5) for k in range(12)], fps=12.5)
    return folder


def test_extract_lists_what_is_not_usable_and_skips_what_is_done(videos, tmp_path, capsys):
    (videos / "b.mp4").write_bytes(b"no film")
    command = ["extract", "--videos", str(videos), "--out", str(tmp_path / "out"), "--processes", "1"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "1 videos extracted, 0 done before" in said.out and "not usable: b.mp4: can't be read" in said.err
    assert main(command) == 0
    assert "0 videos extracted, 1 done before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--extractor", "i3d"], "there is no extractor 'i3d'"),
        (["--set", "frame_size=112"], "motion has no frame_size"),
        (["--set", "stride_seconds=often"], "stride_seconds can't be 'often'"),
        (["--extractor", "onnx"], "onnx needs an encoder"),
        (["--processes", "0"], "--processes 0 is less than 1"),
    ],
)
def test_wrong_input_ends_with_2_and_one_line(videos, tmp_path, capsys, more, says):
    if "onnx" in more:
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert main(["extract", "--videos", str(videos), "--out", str(tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*.npy"))


def test_a_folder_of_nothing_usable_is_an_error(tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "b.mp4").write_bytes(b"no film")
    assert main(["extract", "--videos", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "no video could be used" in capsys.readouterr().err
    assert main(["extract", "--videos", str(folder)]) == 2


def test_extractors_are_listed_with_their_settings(capsys):
    assert main(["extract", "--list"]) == 0
    said = capsys.readouterr().out
    assert "motion\t" in said and "videomae\t" in said and "fit=crop" in said and "[crop | squash]" in said
