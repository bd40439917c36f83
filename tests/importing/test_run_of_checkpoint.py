"""Checkpoints of other programs become runs that detect what those programs detect.

The checkpoints are made here from the weights in tests/golden, as the programs write them.
"""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from tal_core.cli import main
from tal_core.data.dataset.registry import add_dataset
from tal_core.importing.checkpoints import SOURCES, read_imported, recognise
from tal_core.importing.run_of_checkpoint import import_checkpoint, label_ids, read_labels
from tal_core.inference.predict import load_model, predict_dataset
from tal_core.models.registry import get_method
from tal_core.runs.run import list_runs
from tal_core.types import InputError
from tests.paths import GOLDEN

OFFICIAL = ("actionformer", "tridet", "temporalmaxer")
# The golden's classes 0 to 4, whose alphabetical order is another: 4, 0, 3, 1, 2.
CLASSES = ("golf", "shot", "throw", "jump", "dive")
VIDEOS = (0, 2)  # both have four frames from snippet to snippet and 30 frames a second, or nearly


@pytest.fixture(scope="module", params=OFFICIAL)
def method(request):
    return request.param


def weights_of(method):
    return safetensors.torch.load_file(GOLDEN / method / "weights.safetensors")


def save_official(method, path, **changes):
    """As the authors' programs: with plain and averaged weights from a data-parallel wrapper."""
    averaged = {f"module.{name}": value for name, value in weights_of(method).items()}
    plain = {name: torch.zeros_like(value) for name, value in averaged.items()}
    content = {
        "epoch": 34,
        "state_dict": plain,
        "state_dict_ema": averaged,
        "scheduler": {"base_lrs": [1e-4]},
    }
    torch.save(content | changes, path)
    return path


def save_config(method, path):
    """The golden's settings as the authors' .yaml."""
    keys = json.loads((GOLDEN / method / "config.json").read_text())["reference_config_keys"]
    keys.pop("note")
    model = keys["model"]
    keys["dataset"] = {name: model.pop(name) for name in ("max_seq_len", "input_dim", "num_classes")}
    path.write_text(yaml.safe_dump(keys))
    return path


def make_dataset(home, method, folder, *, classes=CLASSES, channels=48, ids=True):
    """The golden's videos 0 and 2, with its annotations."""
    case = np.load(GOLDEN / method / "case.npz")
    (folder / "features").mkdir(parents=True)
    database = {}
    for number in VIDEOS:
        np.save(folder / "features" / f"v{number}.npy", case[f"video{number}_feats"].T[:, :channels])
        rows = [
            {"segment": [max(0, s), e], "label": classes[k % len(classes)], "label_id": int(k) % len(classes)}
            for (s, e), k in zip(
                case[f"video{number}_segments_sec"].tolist(), case[f"video{number}_labels"], strict=True
            )
        ]
        if not ids:
            rows = [{"segment": row["segment"], "label": row["label"]} for row in rows]
        fps, duration = (case[f"video{number}_{name}"].item() for name in ("fps", "duration"))
        database[f"v{number}"] = {
            "subset": "test",
            "fps": fps,
            "duration": duration,
            "annotations": rows,
        }
    for k, label in enumerate(classes):
        database[f"t{k}"] = {
            "subset": "training",
            "fps": 30.0,
            "duration": 2.0,
            "annotations": [{"segment": [0, 1], "label": label} | ({"label_id": k} if ids else {})],
        }
        np.save(folder / "features" / f"t{k}.npy", np.zeros((15, channels), np.float32))
    (folder / "a.json").write_text(json.dumps({"database": database}))
    add_dataset(
        home,
        "golden",
        annotations=folder / "a.json",
        features=[folder / "features"],
        stride=4,
        offset_seconds=8 / 30,
        training_subset="training",
        evaluation_subset="test",
    )
    return case


def same_as_golden(table, case):
    for number in VIDEOS:
        found = table[table["video_id"] == f"v{number}"]
        expected = case[f"infer_video{number}_final_segments"]
        # The reference ends with the stated duration, this program with the last snippet.
        end = found["end"].max()
        assert end == pytest.approx(case[f"video{number}_duration"], abs=0.02)
        np.testing.assert_allclose(
            found[["start", "end"]].clip(upper=end), expected.clip(max=end), rtol=0, atol=2.5e-3
        )
        np.testing.assert_allclose(found["score"], case[f"infer_video{number}_final_scores"], atol=2e-5)
        labels = [CLASSES[k] for k in case[f"infer_video{number}_final_labels"]]
        assert found["label"].tolist() == labels


def test_an_official_checkpoint_detects_what_it_detected_there(home, tmp_path, method, capsys):
    case = make_dataset(home, method, tmp_path)
    weights, config = save_official(method, tmp_path / "e.pth.tar"), save_config(method, tmp_path / "c.yaml")
    arguments = ["--from", method, "--weights", str(weights), "--config", str(config)]
    assert main(["import-checkpoint", *arguments, "--dataset", "golden", "--run-id", "theirs"]) == 0
    assert "average mAP" in capsys.readouterr().out
    (run,) = [run for run in list_runs(home) if run.run_id == "theirs"]
    assert run.status()["state"] == "finished" and run.config()["model"] == method
    assert run.evaluation().average_mAP == pytest.approx(run.status()["average_mAP"])
    same_as_golden(run.detections(), case)
    assert (run.folder / "candidates.npz").exists()
    # The run's own weights give the same once more, under the dataset's order of classes.
    table, predictions = predict_dataset(home, run, "golden")
    assert predictions.labels == sorted(CLASSES)
    same_as_golden(table, case)


def test_the_order_of_classes_can_be_given(home, tmp_path):
    case = make_dataset(home, "temporalmaxer", tmp_path, ids=False)
    weights = save_official("temporalmaxer", tmp_path / "e.pth.tar")
    config = save_config("temporalmaxer", tmp_path / "c.yaml")
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES) + "\n\n")
    run = import_checkpoint(
        home, "temporalmaxer", weights, "golden", config=config, labels=tmp_path / "labels.txt"
    )
    same_as_golden(run.detections(), case)
    alphabetical = import_checkpoint(home, "temporalmaxer", weights, "golden", config=config)
    found = alphabetical.detections()["label"].tolist()
    assert found == [sorted(CLASSES)[CLASSES.index(label)] for label in run.detections()["label"]]


def test_without_a_config_the_sizes_come_from_the_weights(tmp_path, method):
    imported = read_imported(method, save_official(method, tmp_path / "e.pth.tar"))
    config = imported.config
    assert (config.embed_dim, config.head_dim, config.levels, config.embed_layers) == (32, 40, 5, 2)
    assert (imported.num_features, imported.num_classes, imported.epoch) == (48, 5, 34)
    get_method(method).build(config, 48, 5)
    stated = read_imported(method, tmp_path / "e.pth.tar", save_config(method, tmp_path / "c.yaml")).config
    assert stated.sequence_length == 256 and stated.max_candidates == 60 and stated.batch_size == 8


OPENTAD_NAMES = (
    ("backbone.embd_norm.{}.", "projection.embed.{}.norm."),
    ("backbone.embd.{}.conv.", "projection.embed.{}.conv."),
    ("backbone.", "projection."),
    ("cls_head.head.{}.conv.", "rpn_head.cls_convs.{}.conv."),
    ("cls_head.norm.{}.", "rpn_head.cls_convs.{}.norm."),
    ("cls_head.cls_head.conv.", "rpn_head.cls_head."),
    ("reg_head.head.{}.conv.", "rpn_head.reg_convs.{}.conv."),
    ("reg_head.norm.{}.", "rpn_head.reg_convs.{}.norm."),
    ("reg_head.offset_head.conv.", "rpn_head.reg_head."),
    ("reg_head.scale.", "rpn_head.scale."),
    ("start_head.head.{}.conv.", "rpn_head.cls_start_convs.{}.conv."),
    ("start_head.norm.{}.", "rpn_head.cls_start_convs.{}.norm."),
    ("start_head.cls_head.conv.", "rpn_head.cls_start_head."),
    ("end_head.head.{}.conv.", "rpn_head.cls_end_convs.{}.conv."),
    ("end_head.norm.{}.", "rpn_head.cls_end_convs.{}.norm."),
    ("end_head.cls_head.conv.", "rpn_head.cls_end_head."),
)


def opentad_state(method):
    """The golden's weights under OpenTAD's names; its norms are vectors, and its normaliser is stored."""
    state = {}
    for name, value in weights_of(method).items():
        vector = value.ndim == 3 and value.shape[0] == value.shape[2] == 1 and "scale" not in name
        for old, new in OPENTAD_NAMES:
            for number in range(8):
                if name.startswith(old.format(number)):
                    name = new.format(number) + name.removeprefix(old.format(number))
        state[f"module.{name}"] = value.flatten() if vector else value
    return state | {"module.rpn_head.loss_normalizer": torch.tensor(57.0)}


OPENTAD_BASE = """
model = dict(
    type="{kind}",
    projection=dict(in_channels=48, out_channels=32, arch=(2, 2, 4), max_seq_len=2304, path_pdrop=0.1,
        attn_cfg=dict(n_head=4, n_mha_win_size=9), k=5, sgp_win_size=[1] * 5, use_abs_pe=False),
    rpn_head=dict(num_classes=5, loss_normalizer=100, num_bins=16,
        prior_generator=dict(regression_range=[(0, 4), (4, 8), (8, 16), (16, 32), (32, 10000)])),
)
"""
OPENTAD_CONFIG = """
_base_ = ["base.py"]
length = 256
model = dict(projection=dict(max_seq_len=length))
solver = dict(train=dict(batch_size=2), clip_grad_norm=1, ema=True)
post_processing = dict(
    nms=dict(use_soft_nms=True, sigma=0.5, max_seg_num=200, min_score=0.03, iou_threshold=0)
)
"""


@pytest.mark.parametrize("method", ["actionformer", "tridet"])
def test_opentad(home, tmp_path, method):
    make_dataset(home, method, tmp_path)
    torch.save({"epoch": 3, "state_dict_ema": opentad_state(method)}, tmp_path / "best.pth")
    (tmp_path / "base.py").write_text(OPENTAD_BASE.format(kind=method))
    (tmp_path / "c.py").write_text(OPENTAD_CONFIG)
    run = import_checkpoint(
        home, f"opentad-{method}", tmp_path / "best.pth", "golden", config=tmp_path / "c.py"
    )
    model = load_model(run)
    assert (model.config.sequence_length, model.config.max_detections, model.config.batch_size) == (
        256,
        200,
        2,
    )
    assert model.network.normaliser.value == 57
    official = read_imported(method, save_official(method, tmp_path / "e.pth.tar")).weights
    for name, value in model.network.state_dict().items():
        if "output" not in name and name != "normaliser.value":
            assert torch.equal(value.cpu(), official[name]), name
    assert len(run.detections())


def test_bmn(home, tmp_path):
    case = np.load(GOLDEN / "bmn" / "case.npz")
    make_dataset(home, "actionformer", tmp_path, channels=16)
    state = {f"module.{name}": value for name, value in weights_of("bmn").items()}
    torch.save({"epoch": 5, "state_dict": state}, tmp_path / "BMN_best.pth.tar")
    (tmp_path / "opts.json").write_text(json.dumps({"temporal_scale": 23, "num_sample": 32, "feat_dim": 16}))
    weights, options = tmp_path / "BMN_best.pth.tar", {"config": tmp_path / "opts.json"}
    refused(home, "bmn", weights, "golden: has no video-level class scores.*--proposals", **options)
    run = import_checkpoint(home, "bmn", weights, "golden", **options, proposals=True)
    assert run.status()["state"] == "finished" and "proposals without classes" in run.status()["message"]
    assert set(run.detections()["label"]) == {"proposal"} and run.evaluation() is None
    network = load_model(run).network.cpu()
    with torch.no_grad():
        outputs = network(torch.from_numpy(case["features"]).transpose(1, 2))
    np.testing.assert_allclose(outputs.start.sigmoid(), case["out_start"], atol=1e-5)
    np.testing.assert_allclose(outputs.end.sigmoid(), case["out_end"], atol=1e-5)


# What can't be imported, in one line each


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


def refused(home, source, weights, words, **options):
    before = {run.run_id for run in list_runs(home)}
    with pytest.raises(InputError, match=words) as raised:
        import_checkpoint(home, source, weights, "golden", **options)
    assert "\n" not in str(raised.value)
    assert {run.run_id for run in list_runs(home)} == before


def test_faulty_files(home, tmp_path, capsys):
    make_dataset(home, "temporalmaxer", tmp_path)
    good = save_official("temporalmaxer", tmp_path / "good.pth.tar")
    (tmp_path / "half.pth").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("no weights at all")
    torch.save({"state_dict": {}, "x": Evil()}, tmp_path / "evil.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("half", "empty", "text"):
        refused(home, "temporalmaxer", tmp_path / f"{name}.pth", "can't be read as a PyTorch checkpoint")
    refused(home, "temporalmaxer", tmp_path / "evil.pth", "could run code, so it is not read")
    refused(home, "temporalmaxer", tmp_path / "list.pth", "holds no state_dict")
    refused(home, "temporalmaxer", tmp_path / "absent.pth", "there is no such file")
    refused(home, "temporalmaxer", tmp_path, "is a folder")
    assert "this must never run" not in capsys.readouterr().out


def test_another_methods_checkpoint(home, tmp_path, capsys):
    make_dataset(home, "temporalmaxer", tmp_path)
    for method in OFFICIAL:
        path = save_official(method, tmp_path / f"{method}.pth.tar")
        for source in SOURCES:
            if source != method:
                refused(
                    home, source, path, f"is a checkpoint of {method}, not of {source}. .*--from {method}"
                )
    torch.save({"state_dict": {"fc.weight": torch.ones(2, 2)}}, tmp_path / "other.pth")
    refused(home, "bmn", tmp_path / "other.pth", "of none of the methods")
    arguments = ["--from", "bmn", "--weights", str(tmp_path / "other.pth"), "--dataset", "golden"]
    assert main(["import-checkpoint", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    for method in ("actionformer", "tridet"):
        state = {name.removeprefix("module."): value for name, value in opentad_state(method).items()}
        assert recognise(state) == f"opentad-{method}"


def test_another_feature_size_or_class_count(home, tmp_path):
    make_dataset(home, "temporalmaxer", tmp_path, channels=47)
    weights = save_official("temporalmaxer", tmp_path / "e.pth.tar")
    refused(home, "temporalmaxer", weights, "dataset golden: has features of 47 channels, .* needs 48")


def test_other_classes(home, tmp_path):
    make_dataset(home, "temporalmaxer", tmp_path, classes=CLASSES[:4])
    weights = save_official("temporalmaxer", tmp_path / "e.pth.tar")
    refused(home, "temporalmaxer", weights, "the checkpoint has 5 classes, but 4 are given")
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    labels = {"labels": tmp_path / "labels.txt"}
    refused(home, "temporalmaxer", weights, "class 'dive' is not in both", **labels)
    (tmp_path / "labels.txt").write_text("golf\ngolf\n")
    with pytest.raises(InputError, match="names 'golf' twice"):
        read_labels(tmp_path / "labels.txt")


def test_a_config_of_another_checkpoint(home, tmp_path):
    make_dataset(home, "temporalmaxer", tmp_path)
    weights = save_official("temporalmaxer", tmp_path / "e.pth.tar")
    config = save_config("temporalmaxer", tmp_path / "c.yaml")
    text = config.read_text()
    config.write_text(text.replace("embd_dim: 32", "embd_dim: 64"))
    refused(home, "temporalmaxer", weights, "says embed_dim is 64, but .* 32", config=config)
    config.write_text(text.replace("max_seq_len: 256", "max_seq_len: 250"))
    refused(home, "temporalmaxer", weights, "sequence_length can't be 250", config=config)
    config.write_text(text.replace("fpn_type: identity", "fpn_type: fpn"))
    refused(home, "temporalmaxer", weights, "fpn_type=fpn in the config is not supported", config=config)


def test_label_ids_need_one_number_for_each_class(tmp_path):
    def write(*rows):
        rows = [{"label": label} | ({} if k is None else {"label_id": k}) for label, k in rows]
        (tmp_path / "a.json").write_text(json.dumps({"database": {"v": {"annotations": rows}}}))
        return label_ids(tmp_path / "a.json")

    assert write(("b", 0), ("a", 3), ("b", 0)) == ["b", "a"]
    assert write(("b", 0), ("a", 0)) is None
    assert write(("b", 0), ("b", 1)) is None
    assert write(("b", 0), ("a", None)) is None
    assert label_ids(tmp_path) is None


def test_an_official_checkpoint_of_one_class_makes_proposals(home, tmp_path, method):
    """As published for ActivityNet: NMS first, then the two best classes, by the root of the product."""
    make_dataset(home, method, tmp_path)
    heads = ("cls_head.cls_head.", "start_head.cls_head.", "end_head.cls_head.")
    one = {k: v[:1] if k.startswith(heads) else v for k, v in weights_of(method).items()}
    torch.save({"state_dict_ema": {f"module.{k}": v for k, v in one.items()}}, tmp_path / "e.pth.tar")
    config = save_config(method, tmp_path / "c.yaml")
    refused(home, method, tmp_path / "e.pth.tar", "no video-level class scores", config=config)
    shares = [0.1, 0.4, 0.1, 0.3, 0.1]
    scores = {"class": CLASSES, "results": {f"v{k}": shares for k in VIDEOS}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    add_dataset(
        home,
        "golden",
        annotations=tmp_path / "a.json",
        features=[tmp_path / "features"],
        stride=4,
        offset_seconds=8 / 30,
        training_subset="training",
        evaluation_subset="test",
        class_scores=tmp_path / "scores.json",
        replace=True,
    )
    run = import_checkpoint(home, method, tmp_path / "e.pth.tar", "golden", config=config)
    bare = import_checkpoint(home, method, tmp_path / "e.pth.tar", "golden", config=config, proposals=True)
    found, proposals = run.detections(), bare.detections()
    assert len(found) == 2 * len(proposals) and set(found["label"]) == {"shot", "jump"}
    for label, share in (("shot", 0.4), ("jump", 0.3)):
        mine = found[found["label"] == label]["score"].to_numpy()
        assert np.sort(mine) == pytest.approx(np.sort(np.sqrt(share * proposals["score"])), abs=2e-5)
