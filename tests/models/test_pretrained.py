"""Pretrained models: weights from files, what enters the head, and what is refused. Nothing is downloaded."""

import io
import json
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from fkal.errors import ConfigError, MissingWeights
from fkal.models.dropout import MonteCarloDropout
from fkal.models.head import HeadInput, head_width
from fkal.models.pretrained import Embedder, Pretrained, pretrained, weights_are_here
from fkal.models.registry import build
from fkal.models.settings import ModelConfig, usual_taps
from fkal.models.taps import Taps, pooled_tap, tap_widths
from fkal.models.weights_files import checksum

timm = pytest.importorskip("timm")

SMALL = "shufflenet_v2_x0_5"
REAL = Path(os.environ.get("FKAL_DATA_ROOT", "."), "../weights/tf_efficientnet_lite0.in1k.safetensors")


def seeded(make) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


def saved(model: nn.Module, file: Path) -> str:
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return str(file)


@pytest.fixture
def of_torchvision(tmp_path) -> tuple[nn.Module, Pretrained]:
    model = seeded(lambda: torchvision.models.get_model(SMALL, num_classes=7))
    return model, pretrained(ModelConfig(name=f"torchvision:{SMALL}", weights=saved(model, tmp_path / "w.safetensors")))


@pytest.fixture
def of_timm(tmp_path) -> tuple[nn.Module, Pretrained]:
    model = seeded(lambda: timm.create_model("test_efficientnet", num_classes=5))
    return model, pretrained(
        ModelConfig(name="timm:test_efficientnet", weights=saved(model, tmp_path / "w.safetensors"))
    )


def test_weights_of_a_file_are_those_of_the_model(of_torchvision, of_timm):
    x = torch.rand(2, 3, 64, 64)
    for model, found in (of_torchvision, of_timm):
        torch.testing.assert_close(found.model(x), model(x))
        assert found.digest == checksum(model.state_dict())


def test_an_embedding_is_what_enters_the_head(of_torchvision, of_timm):
    x = torch.rand(3, 3, 64, 64)
    for model, found in (of_torchvision, of_timm):
        with torch.no_grad(), HeadInput(model) as caught:
            model(x)
        embedder = Embedder(found, None).eval()
        torch.testing.assert_close(embedder(x), caught.features)
        assert embedder.width((3, 64, 64)) == caught.features.shape[1]


def test_a_new_head_is_drawn_and_the_body_is_kept(of_torchvision):
    model, found = of_torchvision
    whole = seeded(lambda: found.with_head(4))
    x = torch.rand(2, 3, 64, 64)
    assert whole(x).shape == (2, 4)
    torch.testing.assert_close(whole.conv1[0].weight, model.conv1[0].weight)
    assert any(isinstance(layer, MonteCarloDropout) for layer in whole.modules())
    assert found.model(x).shape == (2, 7)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_byobnet"])
def test_a_model_without_a_head_embeds_as_it_is_and_gets_one_to_learn(tmp_path, name):
    """Those that were trained without labels, such as DINOv2, have none."""
    model = seeded(lambda: timm.create_model(name, num_classes=0))
    weights = saved(model, tmp_path / "w.safetensors")
    x = torch.rand(2, *model.default_cfg["input_size"])
    found = pretrained(ModelConfig(name=f"timm:{name}", weights=weights))
    embedder = Embedder(found, None).eval()
    torch.testing.assert_close(embedder(x), model(x).detach())
    assert embedder.width(tuple(x.shape[1:])) == model.num_features
    assert head_width(found.with_head(4).eval(), tuple(x.shape[1:])) == model.num_features


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_dinov2", "vit_small_patch16_dinov3", "convnext_tiny.dinov3_lvd1689m"]
)
def test_the_suggested_backbone_and_its_kind_embed_small_images(tmp_path, name):
    model = seeded(lambda: timm.create_model(name))
    config = ModelConfig(name=f"timm:{name}", weights=saved(model, tmp_path / "w.safetensors"))
    assert Embedder(pretrained(config), None).width((3, 112, 112)) == model.num_features


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "volo_d1_224", "dla46_c"])
def test_a_model_with_several_heads_or_another_kind_embeds_what_enters_them(tmp_path, name):
    model = seeded(lambda: timm.create_model(name))
    found = pretrained(ModelConfig(name=f"timm:{name}", weights=saved(model, tmp_path / "w.safetensors")))
    model.reset_classifier(0)
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(Embedder(found, None).eval()(x), model(x))


def test_weights_of_torchvision_under_a_license_of_their_own_have_to_be_accepted(monkeypatch):
    def no_network(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    swag = ModelConfig(name="vit_b_16", weights="IMAGENET1K_SWAG_LINEAR_V1")
    with pytest.raises(ConfigError, match=r"--accept-license .*SWAG") as refused:
        pretrained(swag)
    license_name = re.search(r"--accept-license (\S+),", str(refused.value))[1]
    with pytest.raises(MissingWeights):
        pretrained(replace(swag, accept_license=license_name))


def test_a_transformer_of_torchvision_has_the_image_size_of_its_weights(tmp_path):
    model = seeded(lambda: torchvision.models.vit_b_16(image_size=64, num_classes=3))
    found = pretrained(ModelConfig(name="vit_b_16", weights=saved(model, tmp_path / "w.safetensors")))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), model(x))
    assert found.inputs.size == 64


@pytest.mark.parametrize("name", ["mvitv2_tiny", "test_mambaout"])
def test_stages_that_are_no_layers_are_not_tapped(name):
    assert usual_taps(f"timm:{name}") == ()


def test_a_transformer_with_drawn_weights_takes_other_sizes_too():
    model = seeded(lambda: build("timm:test_vit", (3, 32, 32), 4))
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 4)


def test_registers_are_no_class_token(tmp_path):
    model = seeded(lambda: timm.create_model("test_vit2"))
    found = pretrained(ModelConfig(name="timm:test_vit2", weights=saved(model, tmp_path / "w.safetensors")))
    assert model.num_prefix_tokens == 1 and model.cls_token is None
    with pytest.raises(ValueError, match="no class token"):
        Embedder(found, "cls")


def test_a_model_that_ends_in_a_convolution_is_refused(tmp_path):
    model = seeded(lambda: torchvision.models.squeezenet1_1())
    with pytest.raises(ConfigError, match="no linear layer"):
        pretrained(ModelConfig(name="squeezenet1_1", weights=saved(model, tmp_path / "w.safetensors")))


def test_inputs_are_those_of_the_default_weights(of_torchvision, of_timm):
    assert of_torchvision[1].inputs.size == 224
    assert of_torchvision[1].inputs.mean == (0.485, 0.456, 0.406)
    assert of_timm[1].inputs.interpolation == "bicubic"


def test_licenses_are_the_publishers(of_torchvision, of_timm):
    assert of_torchvision[1].license == "not stated"
    assert of_timm[1].license == "apache-2.0"


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "timm:test_resnet", "resnet18"])
def test_weights_of_another_model_are_refused(tmp_path, name):
    model = seeded(lambda: torchvision.models.get_model(SMALL))
    with pytest.raises(ConfigError, match="not those of"):
        pretrained(ModelConfig(name=name, weights=saved(model, tmp_path / "w.safetensors")))


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("timm:test_resnet", {"fc.weight": torch.tensor(1.0)}),
        ("vit_b_16", {"encoder.pos_embedding": torch.ones(1, 5, 768), "conv_proj.weight": torch.tensor(1.0)}),
    ],
)
def test_weights_of_an_odd_shape_are_refused(tmp_path, name, state):
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="not those of"):
        pretrained(ModelConfig(name=name, weights=str(tmp_path / "w.safetensors")))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (torch.full((8,), float("nan")), "not finite"),
        (torch.full((8,), float("inf")), "not finite"),
        (torch.ones(8, dtype=torch.float64) * 1e300, "not finite"),
        (torch.ones(8, dtype=torch.int64), "torch.int64"),
    ],
)
def test_weights_that_are_no_finite_floats_are_refused(tmp_path, changed, message):
    model = seeded(lambda: torchvision.models.resnet18(num_classes=8))
    save_file({**model.state_dict(), "fc.bias": changed}, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=rf"fc\.bias.*{message}"):
        pretrained(ModelConfig(name="resnet18", weights=str(tmp_path / "w.safetensors")))


def test_weights_that_are_not_dense_are_refused(tmp_path):
    state = torchvision.models.resnet18(num_classes=8).state_dict()
    torch.save({**state, "fc.weight": state["fc.weight"].to_sparse()}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"fc\.weight.*no dense tensor"):
        pretrained(ModelConfig(name="resnet18", weights=str(tmp_path / "w.pt")))


def test_unknown_weights_are_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match="IMAGENET1K_V1"):
        pretrained(ModelConfig(name="resnet50", weights="IMAGENET"))
    with pytest.raises(ConfigError, match="in1k"):
        pretrained(ModelConfig(name="timm:tf_efficientnet_lite0", weights="nowhere_in1k"))


def test_a_failed_download_says_which_file_goes_where(monkeypatch, tmp_path):
    def no_network(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeights, match=r"bring resnet50-11ad3fa6.pth .*checkpoints"):
        pretrained(ModelConfig(name="resnet50", weights="DEFAULT"))


@pytest.mark.parametrize("weights", ["DEFAULT", "lvd1689m"])
def test_a_license_that_has_to_be_accepted_is_refused_before_the_download(monkeypatch, weights):
    asked = []

    def no_network(*args, **kwargs):
        asked.append(args)
        raise URLError("no network")

    monkeypatch.setattr("timm.create_model", no_network)
    dinov3 = ModelConfig(name="timm:vit_small_patch16_dinov3", weights=weights)
    with pytest.raises(ConfigError, match="--accept-license dinov3-license"):
        pretrained(dinov3)
    assert not asked
    with pytest.raises(MissingWeights):
        pretrained(replace(dinov3, accept_license="dinov3-license"))
    assert asked


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_published_weights_of_torchvision_are_here_once_their_file_is(monkeypatch, tmp_path, weights):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = ModelConfig(name="torchvision:resnet18", weights=weights)
    assert not weights_are_here(model)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").touch()
    assert weights_are_here(model)


@pytest.mark.parametrize("weights", ["DEFAULT", "in1k", "timm/tf_efficientnet_lite0.in1k"])
def test_published_weights_of_timm_are_here_once_the_hubs_cache_has_them(monkeypatch, tmp_path, weights):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = ModelConfig(name="timm:tf_efficientnet_lite0", weights=weights)
    assert not weights_are_here(model)
    kept = tmp_path / "models--timm--tf_efficientnet_lite0.in1k"
    for folder in (kept / "refs", kept / "snapshots" / ("0" * 40)):
        folder.mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    (kept / "snapshots" / ("0" * 40) / "model.safetensors").touch()
    assert weights_are_here(model)


def test_drawn_weights_and_those_of_a_file_need_no_download(tmp_path):
    assert weights_are_here(ModelConfig(name="resnet10"))
    file = tmp_path / "own.safetensors"
    assert not weights_are_here(ModelConfig(name="resnet10", weights=str(file)))
    file.touch()
    assert weights_are_here(ModelConfig(name="resnet10", weights=str(file)))


def test_our_resnet18_takes_torchvisions_weights(tmp_path):
    theirs = seeded(lambda: torchvision.models.resnet18(num_classes=3))
    found = pretrained(ModelConfig(name="resnet18", weights=saved(theirs, tmp_path / "w.safetensors")))
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(found.model(x), theirs(x))


class TestTransformers:
    """Tokens: those of no patch are left out of means."""

    def test_a_tap_of_timm_drops_prefix_tokens(self):
        model = seeded(lambda: timm.create_model("test_vit", img_size=64))
        taps = usual_taps("timm:test_vit")
        x = torch.rand(2, 3, 64, 64)
        with torch.no_grad(), Taps(model, taps) as caught:
            model(x)
        assert model.num_prefix_tokens == 1
        for tap in taps:
            output = caught.outputs[tap]
            torch.testing.assert_close(pooled_tap(model, output), output[:, 1:].mean(dim=1))
        both = tap_widths(model, taps, (3, 64, 64), "cls+mean")
        assert both == {tap: 2 * width for tap, width in tap_widths(model, taps, (3, 64, 64)).items()}

    def test_a_tap_of_torchvision_drops_the_class_token(self):
        model = seeded(
            lambda: torchvision.models.VisionTransformer(
                image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3
            )
        )
        tap = "encoder.layers.encoder_layer_1"
        with torch.no_grad(), Taps(model, (tap,)) as caught:
            model(torch.rand(2, 3, 32, 32))
        output = caught.outputs[tap]
        assert output.shape == (2, 5, 8)
        torch.testing.assert_close(pooled_tap(model, output), output[:, 1:].mean(dim=1))

    def test_an_embedding_by_a_rule_of_ones_own(self, tmp_path):
        model = seeded(lambda: timm.create_model("test_vit"))
        size = model.default_cfg["input_size"][-1]
        found = pretrained(ModelConfig(name="timm:test_vit", weights=saved(model, tmp_path / "w.safetensors")))
        x = torch.rand(2, 3, size, size)
        tokens = model.forward_features(x)
        for rule, expected in (("cls", tokens[:, 0]), ("mean", tokens[:, 1:].mean(dim=1))):
            torch.testing.assert_close(Embedder(found, rule).eval()(x), expected.detach())
        assert Embedder(found, "cls+mean").eval()(x).shape == (2, 2 * tokens.shape[2])

    def test_images_of_another_size_are_taken(self, tmp_path):
        model = seeded(lambda: timm.create_model("test_vit", num_classes=5))
        found = pretrained(ModelConfig(name="timm:test_vit", weights=saved(model, tmp_path / "w.safetensors")))
        x = torch.rand(2, 3, *model.default_cfg["input_size"][1:])
        torch.testing.assert_close(found.model(x), model(x), rtol=0, atol=0)
        other = 2 * model.patch_embed.patch_size[0]
        assert Embedder(found, None).width((3, other, other)) == model.num_features
        with pytest.raises(ValueError, match=r"set data\.image_size"):
            Embedder(found, None).width((3, other + 1, other + 1))

    def test_a_model_without_tokens_is_told(self, of_torchvision):
        with pytest.raises(ValueError, match="no tokens"):
            Embedder(of_torchvision[1], "cls")


class Made(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def exported(function, path, *, shape=(2, 3, 8, 8), is_dynamic=True) -> str:
    """The file of a program that does what a function does."""
    batch = ({0: torch.export.Dim("batch", min=1)},) if is_dynamic else None
    torch.export.save(torch.export.export(Made(function), (torch.zeros(*shape),), dynamic_shapes=batch), path)
    return str(path)


class TestPrograms:
    """Exported programs: run as graphs, refused where loading would run code."""

    @pytest.fixture
    def body(self) -> nn.Module:
        return seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))

    @pytest.fixture
    def file(self, body, tmp_path) -> Path:
        batch = ({0: torch.export.Dim("batch", min=1)},)
        exported = torch.export.export(body, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=batch)
        torch.export.save(exported, tmp_path / "body.pt2")
        return tmp_path / "body.pt2"

    def test_a_program_embeds_as_its_model_does(self, body, file):
        found = pretrained(ModelConfig(name=str(file)))
        x = torch.rand(5, 3, 16, 16)
        torch.testing.assert_close(Embedder(found, None).eval()(x), body(x).detach())
        assert found.inputs.size == 16

    @pytest.mark.parametrize(
        ("made", "message"),
        [
            (lambda x: (x.flatten(1), x), "tuple"),
            (lambda x: {"features": x.flatten(1)}, "dict"),
            (lambda x: x.flatten(1).argmax(dim=1), r"torch.int64 of shape \(2,\)"),
            (lambda x: x.flatten(1).sum(dim=1), r"torch.float32 of shape \(2,\)"),
            (lambda x: x.flatten(1).sum(dim=0, keepdim=True), "1 rows of 2 images"),
            (lambda x: x.flatten(1) / 0, "not finite"),
        ],
        ids=["tuple", "dict", "argmax", "scalars", "one row", "nan"],
    )
    def test_one_that_makes_no_row_for_each_image_is_told_so(self, tmp_path, made, message):
        embedder = Embedder(pretrained(ModelConfig(name=exported(made, tmp_path / "odd.pt2"))), None)
        with pytest.raises(ValueError, match=message) as refused:
            embedder.width((3, 8, 8))
        assert "image_size" not in str(refused.value)

    def test_one_that_standardises_each_image_is_taken(self, tmp_path):
        name = exported(lambda x: x.flatten(1) / x.flatten(1).std(dim=1, keepdim=True), tmp_path / "own.pt2")
        assert Embedder(pretrained(ModelConfig(name=name)), None).width((3, 8, 8)) == 192

    @pytest.mark.parametrize(
        ("shape", "is_dynamic", "message"),
        [((2, 3, 8, 8), False, "only batches of 2"), ((2, 1, 8, 8), True, "images of 1 channels")],
    )
    def test_one_that_takes_other_batches_is_refused(self, tmp_path, shape, is_dynamic, message):
        name = exported(lambda x: x.flatten(1), tmp_path / "odd.pt2", shape=shape, is_dynamic=is_dynamic)
        with pytest.raises(ConfigError, match=message):
            pretrained(ModelConfig(name=name))

    def test_its_layers_do_not_learn(self, file):
        with pytest.raises(ValueError, match="frozen"):
            pretrained(ModelConfig(name=str(file))).with_head(3)

    @pytest.mark.parametrize(
        ("entry", "content"),
        [
            ("data/aotinductor/model/a.so", b"\x7fELF"),
            ("data/constants/custom_obj_0", b"x"),
            ("data/weights/model_weights_config.json", json.dumps({"config": {"w": {"use_pickle": True}}}).encode()),
            ("models/model.json", json.dumps({"a": [{"expr_str": "__import__('os').getpid()"}]}).encode()),
            ("data/sample_inputs/model.pt", b"\x80\x04cos\ngetpid\n)R."),
        ],
    )
    def test_what_would_run_code_is_refused(self, file, entry, content):
        changed = io.BytesIO()
        with zipfile.ZipFile(file) as before, zipfile.ZipFile(changed, "w") as after:
            root = before.namelist()[0].partition("/")[0]
            for name in before.namelist():
                if name != f"{root}/{entry}":
                    after.writestr(name, before.read(name))
            after.writestr(f"{root}/{entry}", content)
        file.write_bytes(changed.getvalue())
        with pytest.raises(ConfigError, match="not a program to embed by"):
            pretrained(ModelConfig(name=str(file)))

    def test_an_absent_one_is_missing_and_another_file_is_refused(self, tmp_path):
        with pytest.raises(MissingWeights):
            pretrained(ModelConfig(name=str(tmp_path / "none.pt2")))
        (tmp_path / "text.pt2").write_text("import os")
        with pytest.raises(ConfigError, match="not a program"):
            pretrained(ModelConfig(name=str(tmp_path / "text.pt2")))


@pytest.mark.skipif(not REAL.exists(), reason="the real weights are not beside the data root")
def test_real_weights_tell_what_their_network_learned():
    found = pretrained(ModelConfig(name="timm:tf_efficientnet_lite0", weights=str(REAL)))
    assert (found.inputs.size, found.inputs.mean, found.license) == (224, (0.5, 0.5, 0.5), "apache-2.0")
    assert Embedder(found, None).width((3, 64, 64)) == 1280
