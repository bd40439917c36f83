"""Videos for the browser: in parts, and only those that a page has registered."""

import importlib.util

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.common import video_serving


@pytest.fixture
def client():
    return TestClient(Starlette(routes=video_serving.ROUTES))


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    with path.open("wb") as file:
        file.write(bytes(range(256)))
        file.truncate(3 * 2**30)  # 3 GB, sparse
    return path


def test_a_part_of_a_long_video_is_sent_alone(client, film):
    answer = client.get(f"/videos/{video_serving.register(film)}", headers={"Range": "bytes=10-19"})
    assert answer.status_code == 206 and answer.content == bytes(range(10, 20))
    assert answer.headers["content-range"] == f"bytes 10-19/{3 * 2**30}"
    assert answer.headers["content-type"] == "video/mp4"
    last = client.get(f"/videos/{video_serving.register(film)}", headers={"Range": f"bytes={3 * 2**30 - 4}-"})
    assert last.content == bytes(4)


def test_nothing_else_can_be_had(client, film, tmp_path):
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    name = video_serving.register(film)
    for asked in ("secret.mp4", "film.mp4", f"{name}/../secret.mp4", "..%2Fsecret.mp4", name[:-1], str(film)):
        assert client.get(f"/videos/{asked}").status_code == 404
    film.unlink()
    assert client.get(f"/videos/{name}").status_code == 404


def test_addresses_are_stable_and_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(video_serving, "MOST_FILES", 3)
    monkeypatch.setattr(video_serving, "_files", {})
    names = [video_serving.register(tmp_path / f"{number}.mp4") for number in range(4)]
    assert len(video_serving._files) == 3 and names[0] not in video_serving._files
    assert video_serving.register(tmp_path / "3.mp4") == names[3]


def test_the_route_lies_under_the_base_path(monkeypatch):
    monkeypatch.setattr(video_serving.st, "get_option", {"server.baseUrlPath": "tal/"}.get)
    spec = importlib.util.spec_from_file_location("video_serving_again", video_serving.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert [route.path for route in again.ROUTES] == ["/tal/videos/{name}"]
