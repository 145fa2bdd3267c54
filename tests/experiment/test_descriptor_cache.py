import dataclasses
import json

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.engine import describing
from fkal.engine.describing import Describer
from fkal.engine.progress import Progress
from fkal.engine.rounds import Round
from fkal.experiment.experiment import prepare
from fkal.experiment.shared_files import write_tensors
from fkal.experiment.versions import LABEL_REVISIONS

ONE = ("acquisition.rounds=1", "train.epochs=1", "pretrain.task=none")
METHODS = {
    "pcc": ("acquisition.name=pcc",),
    "joint": (),
    "sum": ("acquisition.combine=sum",),
    "true": ("acquisition.pseudo_label=true",),
    "joint_shift": ("acquisition.pseudo_label=joint_shift",),
    "joint_shift_grid": ("acquisition.pseudo_label=joint_shift_grid",),
    "predicted": ("acquisition.pseudo_label=predicted",),
    "trace": ("acquisition.pseudo_label=trace", "acquisition.samples=3"),
    "coreset": ("acquisition.name=coreset", "acquisition.taps=[fc1]"),
}


def quiet(message: str) -> None:
    raise AssertionError(f"said {message!r}")


def experiment(out, *assignments, say=quiet):
    layers = [from_file(preset("digits"), "preset digits"), from_assignments([*ONE, *assignments])]
    return prepare(merged(layers), out, say)


def keep(out, *assignments, say=quiet):
    """The folders of the first round's descriptors, made where they are not there."""
    steps = experiment(out, *assignments, say=say).first_descriptors()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def first_round(out, *assignments, say=quiet) -> Round:
    return next(event for event in experiment(out, *assignments, say=say).events() if isinstance(event, Round))


def result(found: Round) -> dict:
    """What a round leaves, without its seconds."""
    facts = dataclasses.asdict(dataclasses.replace(found, seconds={}, weights={}))
    return json.loads(json.dumps(facts, default=lambda tensor: tensor.tolist()))


@pytest.fixture
def describes(monkeypatch):
    """How many batches were described."""
    batches = []
    made = Describer._make

    def counted(self, of_batch, *rest):
        return made(self, lambda *batch: batches.append(1) or of_batch(*batch), *rest)

    monkeypatch.setattr(Describer, "_make", counted)
    return batches


@pytest.mark.parametrize("method", METHODS)
def test_a_first_iteration_from_kept_descriptors_is_the_same_with_nothing_described(method, tmp_path, describes):
    computed = result(first_round(tmp_path / "a", *METHODS[method]))
    assert keep(tmp_path / "b", *METHODS[method])
    describes.clear()
    read = result(first_round(tmp_path / "b", *METHODS[method]))
    assert not describes
    assert read == computed


def test_nothing_is_kept_unless_asked(tmp_path):
    first_round(tmp_path)
    assert not (tmp_path / "descriptors").exists()


def test_a_method_that_begins_at_random_has_none(tmp_path):
    assert keep(tmp_path, "acquisition.name=varr") == []
    assert keep(tmp_path, "acquisition.name=random") == []


def test_validation_images_under_their_true_labels_are_shared_and_the_rest_is_not(tmp_path):
    joint, true, total = (keep(tmp_path, *METHODS[name]) for name in ("joint", "true", "sum"))
    assert joint[0] == true[0]
    assert joint[1] != true[1]
    assert joint == total  # how two kernels meet is no part of what they compare


def test_labels_that_compare_by_the_kernel_depend_on_how_its_parts_meet(tmp_path):
    zg = "acquisition.pseudo_label=joint_zg"
    product, total = keep(tmp_path, zg), keep(tmp_path, zg, *METHODS["sum"])
    assert product[0] == total[0] and product[1] != total[1]


def test_features_in_fields_and_averaged_ones_are_kept_apart(tmp_path):
    """Of the same images, weights and taps, without gradients: only the fields tell them apart."""
    averaged = {*keep(tmp_path, *METHODS["pcc"]), *keep(tmp_path, *METHODS["joint_shift"])}
    shared, validation, pool, _ = keep(tmp_path, *METHODS["joint_shift_grid"])
    assert shared in averaged
    assert not {validation, pool} & averaged


@pytest.mark.parametrize("method", ["trace", "joint"])
def test_labels_that_are_estimated_otherwise_than_before_make_others(method, tmp_path, monkeypatch):
    before = keep(tmp_path, *METHODS[method])
    monkeypatch.setitem(LABEL_REVISIONS, "trace", 99)
    after = keep(tmp_path, *METHODS[method])
    assert set(before).isdisjoint(after) if method == "trace" else before == after


@pytest.mark.parametrize(
    "assignment", ["seed=1", "threads=2", "acquisition.batch_size=100", "holdout=5", "acquisition.taps=[conv2]"]
)
def test_what_they_depend_on_makes_others(assignment, tmp_path):
    assert not set(keep(tmp_path)) & set(keep(tmp_path, assignment))


@pytest.mark.parametrize("assignment", ["data.mean=[0.1]", "data.std=[0.9]", "data.image_size=10"])
def test_under_another_normalisation_or_size_nothing_kept_is_read(assignment, tmp_path):
    """Without pretraining the weights are the same, so only the key of the descriptors can tell them apart."""
    alone = result(first_round(tmp_path / "a", assignment))
    kept = keep(tmp_path / "b")
    assert result(first_round(tmp_path / "b", assignment)) == alone
    assert not set(kept) & set(keep(tmp_path / "b", assignment))


@pytest.mark.parametrize("assignment", ["train.epochs=2", "acquisition.rounds=2", "acquisition.budget=10"])
def test_what_comes_later_makes_no_others(assignment, tmp_path):
    assert keep(tmp_path) == keep(tmp_path, assignment)


def test_a_file_says_what_it_is_made_of(tmp_path):
    with safe_open(keep(tmp_path)[1] / "0000.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["sha256"].partition(" ")[2])
    assert facts["taps"] == ["conv1", "conv2", "fc1"]
    assert facts["labels"]["estimated"]["pseudo_label"] == "joint"


def test_a_corrupt_file_and_one_of_something_else_are_named_and_made_again(tmp_path):
    right = result(first_round(tmp_path / "a"))
    validation, pool = keep(tmp_path)
    files = [folder / "0000.safetensors" for folder in (validation, pool)]
    files[0].write_bytes(files[0].read_bytes()[:-5])
    files[1].write_bytes((keep(tmp_path, "seed=1")[1] / "0000.safetensors").read_bytes())
    said = []
    assert result(first_round(tmp_path, say=said.append)) == right
    assert len(said) == 2
    assert str(files[0]) in said[0]
    assert str(files[1]) in said[1]
    assert "made of something else" in said[1]
    assert result(first_round(tmp_path)) == right


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda rows: {name: tensor[:5] if name != "passes" else tensor for name, tensor in rows.items()}, "is no 300"),
        (lambda rows: {name: tensor for name, tensor in rows.items() if name != "passes"}, "it has the tensors"),
        (lambda rows: {"passes": rows["passes"]}, "it has the tensors passes"),
        (lambda rows: {n: t * float("nan") if t.is_floating_point() else t for n, t in rows.items()}, "has NaN or"),
        (lambda rows: {**rows, "z.fc1": rows["z.fc1"].clone().fill_(float("inf"))}, "z.fc1 has NaN or infinite"),
        (lambda rows: {**rows, "g.fc1": rows["g.fc1"].long()}, "g.fc1 has numbers of the type int64"),
        (lambda rows: {name: tensor.double() for name, tensor in rows.items()}, "it has the tensors"),
    ],
)
def test_a_file_with_a_right_checksum_and_other_rows_is_made_again(tmp_path, change, part):
    right = result(first_round(tmp_path / "a"))
    file = keep(tmp_path)[0] / "0000.safetensors"
    with safe_open(file, framework="pt") as opened:
        of = opened.metadata()["sha256"].partition(" ")[2]
    write_tensors(file, change(load_file(file)), of)
    said = []
    assert result(first_round(tmp_path, say=said.append)) == right
    assert len(said) == 1 and str(file) in said[0] and part in said[0]


def test_what_a_stop_left_is_gone_on_with(tmp_path, monkeypatch, describes):
    monkeypatch.setattr(describing, "SHARD_ROWS", 100)
    small = "acquisition.batch_size=50"
    whole = result(first_round(tmp_path / "a", small))
    steps = experiment(tmp_path, small).first_descriptors()
    for _ in range(9):
        next(steps)
    steps.close()
    stopped = len(list((tmp_path / "descriptors").rglob("*.safetensors")))
    describes.clear()
    folders = keep(tmp_path, small)
    files = [path for folder in folders for path in folder.glob("*.safetensors")]
    assert 0 < stopped < len(files)
    assert len(describes) == 2 * (len(files) - stopped) - 1  # two batches a file; the last has one
    assert result(first_round(tmp_path, small)) == whole


class InTurn:
    """An `Elsewhere` in this process, which makes the last file first."""

    def __init__(self, again) -> None:
        self._again = again
        self.made: list = []

    def descriptors(self, files):
        for done, file in enumerate(reversed(files), start=1):
            self.made.append(file)
            for _ in self._again().descriptor_shard(file):
                pass
            yield Progress("descriptors", done, len(files), "shards")


def kept_elsewhere(out, *assignments) -> InTurn:
    elsewhere = InTurn(lambda: experiment(out, *assignments))
    for _ in dataclasses.replace(experiment(out, *assignments), elsewhere=elsewhere).first_descriptors():
        pass
    return elsewhere


def contents(out) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*.safetensors"))}


@pytest.mark.parametrize("method", METHODS)
def test_files_made_elsewhere_in_any_order_have_the_bytes_of_those_made_here(method, tmp_path, monkeypatch):
    monkeypatch.setattr(describing, "SHARD_ROWS", 100)
    chosen = (*METHODS[method], "acquisition.batch_size=50")
    keep(tmp_path / "here", *chosen)
    made = kept_elsewhere(tmp_path / "there", *chosen).made
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert len(made) == len(set(made)) == len(contents(tmp_path / "there")) > 3


def test_only_the_files_that_are_missing_are_made_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(describing, "SHARD_ROWS", 100)
    small = "acquisition.batch_size=50"
    folders = keep(tmp_path, small)
    before = contents(tmp_path)
    (folders[1] / "0001.safetensors").unlink()
    assert kept_elsewhere(tmp_path, small).made == [folders[1] / "0001.safetensors"]
    assert contents(tmp_path) == before
    assert kept_elsewhere(tmp_path, small).made == []
