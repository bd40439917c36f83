from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from torch import nn

from tal_core.models.shared.weights import WeightsInfo, load_weights, read_info, save_weights
from tal_core.types import InputError, TimeGrid

INFO = WeightsInfo("baseline", ["a", "b"], 3, 5, TimeGrid(0.1, 0.05), {"name": "motion"})


def test_round_trip(tmp_path):
    path = tmp_path / "last.safetensors"
    written, read = nn.Linear(3, 2), nn.Linear(3, 2)
    save_weights(path, written.state_dict(), INFO)
    load_weights(path, read)
    assert torch.equal(written.weight, read.weight) and read_info(path) == INFO
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_weights_may_not_know_where_their_features_came_from(tmp_path):
    path = tmp_path / "last.safetensors"
    info = replace(INFO, extractor=None)
    save_weights(path, nn.Linear(3, 2).state_dict(), info)
    assert read_info(path) == info
    with safe_open(path, framework="pt") as file:
        assert "extractor" not in file.metadata()  # as in files written before there was one


def test_another_size_is_named(tmp_path):
    path = tmp_path / "last.safetensors"
    save_weights(path, nn.Linear(3, 2).state_dict(), INFO)
    with pytest.raises(InputError, match="weights weight are 2 x 3, but the config needs 2 x 4"):
        load_weights(path, nn.Linear(4, 2))
    with pytest.raises(InputError, match="absent"):
        load_weights(path, nn.Linear(3, 2, bias=False))


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "text", "pickle", "foreign"])
def test_faulty_files(tmp_path, damage):
    path = tmp_path / "last.safetensors"
    save_weights(path, nn.Linear(3, 2).state_dict(), INFO)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "pickle":
        torch.save({"weight": torch.ones(2)}, path)
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"weight": torch.ones(2)}, path)
    else:
        path.write_bytes({"truncated": content[:-5], "empty": b"", "text": b"{}"}[damage])
    with pytest.raises(InputError) as error:
        read_info(path)
        load_weights(path, nn.Linear(3, 2))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_deleted_folder_does_not_come_back(tmp_path):
    with pytest.raises(InputError, match="can't be written"):
        save_weights(tmp_path / "gone" / "last.safetensors", {}, INFO)
    assert not (tmp_path / "gone").exists()
