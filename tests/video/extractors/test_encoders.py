"""Encoders with small random weights, made here and read from disk as a person's would be."""

import importlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from tal_core.types import InputError
from tal_core.video.extractors import encoders
from tal_core.video.extractors.extractor import make_extractor
from tal_core.video.extractors.spec import ExtractorSpec
from tests.video.films import moving_patch

FRAMES = [(k / 12.5, moving_patch(k / 12.5, (0.4, 0))) for k in range(30)]


def features(spec, batch=1, frames=FRAMES):
    extractor = make_extractor(spec, "cpu", batch=batch)
    found = [vector for seconds, frame in frames for vector in extractor.push(seconds, frame)]
    found = np.stack(found + extractor.finish())
    assert found.shape[1] == extractor.num_features and found.dtype == np.float32
    return found


class Pixels(nn.Module):
    """Means of each colour in each half of a clip, after a fixed projection."""

    def forward(self, clips):
        """(B, 3, T, S, S) to (B, 6)."""
        half = clips.shape[2] // 2
        return torch.cat(
            [clips[:, :, :half].mean(dim=(2, 3, 4)), clips[:, :, half:].mean(dim=(2, 3, 4))], dim=1
        )


def own(name, path, **settings):
    given = {
        "frames": 4,
        "frame_size": 32,
        "stride_seconds": 0.4,
        "snippet_seconds": 0.8,
        "normalise": "unit",
    }
    return ExtractorSpec(name=name, model=str(path), **{**given, **settings})


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.pt"
    torch.jit.trace(Pixels().eval(), torch.rand(1, 3, 4, 32, 32)).save(str(path))
    return path


def test_an_own_torchscript_sees_the_pictures_as_told(script):
    found = features(own("torchscript", script))
    assert found.shape == (5, 6)
    crop = moving_patch(0.0, (0.4, 0))[:, 16:112] / 255  # the centre of the first frame
    np.testing.assert_allclose(found[0, 0], crop[..., 0].mean(), atol=0.05)
    raw = features(own("torchscript", script, normalise="bytes"))
    np.testing.assert_allclose(raw, found * 255, rtol=1e-4)
    kinetics = features(own("torchscript", script, normalise="kinetics"))
    mean, deviation = (np.tile(values, 2) for values in encoders.NORMALISATIONS["kinetics"])
    np.testing.assert_allclose(kinetics, (found - mean) / deviation, rtol=1e-3, atol=1e-4)


def test_batches_change_nothing(script):
    alone = features(own("torchscript", script))
    for batch in (2, 3, 8):
        np.testing.assert_allclose(features(own("torchscript", script), batch), alone, atol=1e-6)


def test_half_precision_is_nearly_the_same(script):
    spec = own("torchscript", script, precision="bfloat16")
    np.testing.assert_allclose(features(spec), features(own("torchscript", script)), atol=0.02)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    make, folder = onnx.helper, tmp_path_factory.mktemp("onnx")

    def write(batch):
        value = make.make_tensor_value_info
        clip = value("clip", onnx.TensorProto.FLOAT, [batch, 3, 4, 32, 32])
        out = value("vector", onnx.TensorProto.FLOAT, [batch, 3])
        mean = make.make_node("ReduceMean", ["clip", "axes"], ["vector"], keepdims=0)
        axes = make.make_tensor("axes", onnx.TensorProto.INT64, [3], [2, 3, 4])
        graph = make.make_graph([mean], "means", [clip], [out], [axes])
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=10)
        path = folder / f"{batch}.onnx"
        onnx.save(model, str(path))
        return path

    return write


@pytest.mark.parametrize("size", [1, "batch"])
def test_an_own_onnx_encoder_of_one_clip_or_of_many(onnx_file, script, size):
    path = onnx_file(size)
    found = features(own("onnx", path), batch=3)
    assert found.shape == (5, 3)
    both_halves = features(own("torchscript", script)).reshape(5, 2, 3).mean(axis=1)
    np.testing.assert_allclose(found, both_halves, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "settings", "says"),
    [
        (lambda path: None, {"name": "torchscript"}, "no such encoder file"),
        (lambda path: path.write_bytes(b"no script"), {"name": "torchscript"}, "is no TorchScript file"),
        (lambda path: path.write_bytes(b"no graph"), {"name": "onnx"}, "can't be read as ONNX"),
    ],
)  # fmt: skip
def test_own_encoders_that_cannot_be_used_are_named(tmp_path, make, settings, says):
    if settings["name"] == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = tmp_path / "encoder"
    make(path)
    with pytest.raises(InputError, match=says) as caught:
        make_extractor(own(**settings, path=path), "cpu")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


class Picky(nn.Module):
    """Takes clips of 32 pixels only, and forgets the batch if asked to."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(B, 3, T, 32, 32) to (D,)."""
        return clips.reshape(-1, 32 * 32).mean(dim=0)[:5] if clips.shape[3] == 32 else clips.reshape(7, 7)


def test_an_encoder_of_other_clips_or_answers_is_refused_at_once(tmp_path):
    path = tmp_path / "picky.pt"
    torch.jit.script(Picky()).save(str(path))
    with pytest.raises(InputError, match=r"refuses clips of shape \(1, 3, 4, 48, 48\)"):
        make_extractor(own("torchscript", path, frame_size=48), "cpu")
    with pytest.raises(InputError, match=r"gives an array of shape \(5,\) for 1 clips"):
        make_extractor(own("torchscript", path), "cpu")
    with pytest.raises(InputError, match="torchscript needs an encoder"):
        make_extractor(ExtractorSpec(name="torchscript"), "cpu")


def tiny(transformers, kind):
    """A model of a few hundred weights: its class and config."""
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    video = {**size, "patch_size": 16, "tubelet_size": 2}
    if kind == "videomae":
        config = transformers.VideoMAEConfig(**video, image_size=32, num_frames=4, intermediate_size=16)
        return transformers.VideoMAEForVideoClassification(config)
    if kind == "vjepa2":
        predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
        settings = {**video, "hidden_size": 24, "crop_size": 32, "frames_per_clip": 4, "mlp_ratio": 1.0}
        return transformers.VJEPA2Model(transformers.VJEPA2Config(**settings, **predictor))
    if kind == "dinov2":
        return transformers.Dinov2Model(transformers.Dinov2Config(**size, image_size=28, patch_size=14))
    vision = {**size, "intermediate_size": 16, "image_size": 32, "patch_size": 16}
    text = {**size, "intermediate_size": 16, "vocab_size": 50, "max_position_embeddings": 8}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=12)
    return transformers.CLIPModel(config)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    transformers.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("hub")

    def save(kind):
        if not (folder / kind).exists():
            torch.manual_seed(0)
            tiny(transformers, kind).save_pretrained(folder / kind)
        return folder / kind

    return save


@pytest.mark.parametrize(
    ("name", "kind", "dimension"),
    [("videomae", "videomae", 16), ("vjepa2", "vjepa2", 24), ("image", "clip", 12), ("image", "dinov2", 16)],
)
def test_hugging_face_encoders_from_a_folder(hub, name, kind, dimension):
    spec = ExtractorSpec(name=name, model=str(hub(kind)), stride_seconds=0.4, snippet_seconds=0.8)
    alone, batched = features(spec), features(spec, batch=3)
    assert alone.shape == (5, dimension)
    np.testing.assert_allclose(alone, batched, atol=1e-5)
    assert np.abs(np.diff(alone, axis=0)).max() > 1e-4, "what moves changes the features"


def test_what_hugging_face_encoders_compute_is_the_models_own(hub):
    transformers = pytest.importorskip("transformers")
    spec = ExtractorSpec(name="videomae", model=str(hub("videomae")), stride_seconds=1, snippet_seconds=1)
    model = transformers.VideoMAEModel.from_pretrained(hub("videomae")).eval()
    still = [(k / 12.5, FRAMES[0][1]) for k in range(20)]
    picture = make_extractor(spec, "cpu")._square(FRAMES[0][1]) / 255
    mean, deviation = (np.array(values) for values in encoders.NORMALISATIONS["imagenet"])
    pixels = torch.tensor((picture - mean) / deviation, dtype=torch.float32).permute(2, 0, 1)
    with torch.no_grad():
        tokens = model(pixels.expand(1, 4, 3, 32, 32)).last_hidden_state
    np.testing.assert_allclose(features(spec, frames=still)[0], tokens.mean(dim=1)[0], atol=1e-4)


def test_colours_come_from_the_models_own_file(hub, tmp_path):
    folder = Path(shutil.copytree(hub("clip"), tmp_path / "clip"))
    usual = features(ExtractorSpec(name="image", model=str(folder)))
    said = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    other = features(ExtractorSpec(name="image", model=str(folder)))
    asked = features(ExtractorSpec(name="image", model=str(folder), normalise="symmetric"))
    assert np.abs(other - usual).max() > 1e-4
    np.testing.assert_allclose(other, asked, atol=1e-6)


def test_hugging_face_models_that_cannot_be_used_are_named(hub, tmp_path):
    with pytest.raises(InputError, match=r"type clip, not videomae.*Try the extractor image"):
        make_extractor(ExtractorSpec(name="videomae", model=str(hub("clip"))), "cpu")
    with pytest.raises(InputError, match=r"this model is not on this machine. Nothing is downloaded"):
        make_extractor(ExtractorSpec(name="image", model="nobody/nothing"), "cpu")
    with pytest.raises(InputError, match="videomae needs a model"):
        make_extractor(ExtractorSpec(name="videomae"), "cpu")
    folder = Path(shutil.copytree(hub("videomae"), tmp_path / "holed"))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "encoder" not in name}
    safetensors.torch.save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks .* weights of its network"):
        make_extractor(ExtractorSpec(name="videomae", model=str(folder)), "cpu")


TORCHVISION = {"r2plus1d_18": 512, "s3d": 1024, "mvit_v1_b": 768, "mvit_v2_s": 768, "swin3d_t": 768}


@pytest.fixture(scope="module")
def torchvision_models():
    try:
        return importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision doesn't work beside this torch: {error}")


@pytest.mark.parametrize("name", list(TORCHVISION))
def test_torchvision_backbones_give_their_penultimate_features(torchvision_models, tmp_path, name):
    torch.manual_seed(0)
    model = torchvision_models.get_model(name, weights=None, num_classes=7).eval()
    path = tmp_path / f"{name}.pth"
    torch.save(model.state_dict(), path)
    spec = ExtractorSpec(name=name, model=str(path), snippet_seconds=1.2, stride_seconds=1.2)
    found = features(spec)
    assert found.shape == (2, TORCHVISION[name])

    head = {"r2plus1d_18": "fc", "s3d": "classifier"}.get(name, "head")
    seen = []
    getattr(model, head).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    extractor, clips = make_extractor(spec, "cpu"), []
    encoder = extractor.encoder
    extractor.encoder = lambda given: clips.append(given) or encoder(given)
    extractor.encoder.frames, extractor.encoder.size = encoder.frames, encoder.size
    for seconds, frame in FRAMES[:16]:
        extractor.push(seconds, frame)
    with torch.no_grad():
        model(torch.from_numpy(clips[0]).permute(0, 4, 1, 2, 3) * encoder._scale - encoder._shift)
    np.testing.assert_allclose(found[0], encoders.flat(seen[0].numpy(), 1, name)[0], rtol=1e-3, atol=1e-4)


def test_torchvision_weights_must_be_there_and_fit(torchvision_models, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"s3d are not on this machine.*get https://.*s3d"):
        make_extractor(ExtractorSpec(name="s3d"), "cpu")
    path = tmp_path / "other.pth"
    torch.save(torchvision_models.video.r3d_18(weights=None).state_dict(), path)
    with pytest.raises(InputError, match="not weights of torchvision's r2plus1d_18"):
        make_extractor(ExtractorSpec(name="r2plus1d_18", model=str(path)), "cpu")


def test_a_missing_package_is_named_with_its_cure(monkeypatch):
    def gone(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(encoders, "importlib", SimpleNamespace(import_module=gone))
    for name, package in (("s3d", "torchvision"), ("videomae", "transformers")):
        with pytest.raises(InputError, match=f"{package} is not installed.*requirements-video.txt"):
            make_extractor(ExtractorSpec(name=name), "cpu")


def test_a_package_that_does_not_work_says_why(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(encoders, "importlib", SimpleNamespace(import_module=broken))
    with pytest.raises(InputError, match=r"torchvision can't be imported .*nms does not exist"):
        make_extractor(ExtractorSpec(name="s3d"), "cpu")


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_files_of_weights_are_never_unpickled(tmp_path):
    torch.save({"weight": torch.ones(2), "evil": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="reading it would run code"):
        encoders.read_weights(tmp_path / "evil.pth")
    torch.save({"state_dict": {"module.weight": torch.ones(2)}}, tmp_path / "good.pth")
    assert list(encoders.read_weights(tmp_path / "good.pth")) == ["weight"]
    torch.save(torch.ones(2), tmp_path / "bare.pth")
    with pytest.raises(InputError, match="holds no table of weights"):
        encoders.read_weights(tmp_path / "bare.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("text.pth", "text.safetensors", "gone.pth"):
        with pytest.raises(InputError, match=name):
            encoders.read_weights(tmp_path / name)
