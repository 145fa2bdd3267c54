"""The scratch directory of one experiment."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch

from fkal.data.regular_files import regular_bytes
from fkal.errors import first_line
from fkal.experiment.shared_files import read_tensors, write_tensors
from fkal.identifiers import UnsafeName
from fkal.results.checkpoint import Checkpoint, StateInUse

ONE = "0123456789abcdef0123456789abcdef"


def assert_same(first, second):
    """Equal, tensors bit by bit."""
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    elif isinstance(first, Mapping):
        assert list(first) == list(second)
        for name in first:
            assert_same(first[name], second[name])
    elif is_dataclass(first):
        for field in fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    else:
        assert (type(first), first) == (type(second), second)


def reopened(state):
    state.__exit__(None, None, None)
    return state.__enter__()


def test_rounds_come_back_bit_by_bit_and_in_order(state, experiment, tiny_round, said):
    rounds = [tiny_round(experiment, b) for b in (1, 2, 3)]
    for finished in rounds:
        state.add(finished)
    for kept, finished in zip(reopened(state).rounds(said.append), rounds, strict=True):
        assert_same(finished, kept)
    assert said == []


def test_what_a_method_does_not_know_comes_back_as_none(state, experiment, tiny_round, said):
    finished = tiny_round(experiment, 1)
    bare = replace(finished.selection, ranks=None, scores=None, matches=None, pseudo_labels=None)
    finished = replace(finished, selection=bare, peak_memory_mb=1 / 3)
    state.add(finished)
    assert_same(finished, state.rounds(said.append)[0])


def test_odd_tensors_come_back(state, experiment, tiny_round, said):
    shared = torch.arange(6.0).reshape(2, 3)
    weights = {"z": shared.T, "a": shared, "count": torch.tensor(7), "half": torch.ones(2, dtype=torch.bfloat16)}
    finished = replace(tiny_round(experiment, 1), weights=weights)
    state.add(finished)
    assert_same(finished, state.rounds(said.append)[0])


@pytest.mark.parametrize("kind", ["json", "safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "another's", "garbage"])
def test_a_damaged_iteration_and_the_later_ones_are_run_again(state, experiment, tiny_round, said, kind, damage):
    for b in (1, 2, 3):
        state.add(tiny_round(experiment, b))
    path = state.path / f"round-02.{kind}"
    whole = path.read_bytes()
    match damage:
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "empty":
            path.write_bytes(b"")
        case "missing":
            path.unlink()
        case "another's":
            path.write_bytes((state.path / f"round-03.{kind}").read_bytes())
        case "garbage":
            path.write_bytes(b"\xff[1, 2]" * 40)

    kept = reopened(state).rounds(said.append)

    assert [finished.b for finished in kept] == [1]
    assert len(said) == 1
    assert "round-02.json" in said[0]
    assert "run again" in said[0]
    state.add(tiny_round(experiment, 2))
    assert [finished.b for finished in state.rounds(said.append)] == [1, 2]
    assert len(said) == 1


def test_json_of_another_shape_is_damage_too(state, experiment, tiny_round, said):
    state.add(tiny_round(experiment, 1))
    for content in ("null", "[]", "{}", '{"format": "fkal-round-1"}', '{"format": "fkal-round-0"}'):
        (state.path / "round-01.json").write_text(content)
        assert state.rounds(said.append) == []
        state.add(tiny_round(experiment, 1))
    assert len(said) == 5


def test_a_kill_between_the_two_files_is_no_damage(state, experiment, tiny_round, said):
    for b in (1, 2):
        state.add(tiny_round(experiment, b))
    (state.path / "round-02.json").unlink()
    (state.path / ".round-02.json.77.tmp").write_text("{")
    assert [finished.b for finished in reopened(state).rounds(said.append)] == [1]
    assert said == []
    assert not list(state.path.glob(".*.tmp"))


def test_a_figure_that_is_not_finite_is_refused(state, experiment, tiny_round):
    finished = tiny_round(experiment, 1)
    for change in ({"metrics": {"test/accuracy": float("nan")}}, {"train_loss": (0.1, float("inf"))}):
        with pytest.raises(ValueError, match=r"(test/accuracy|epoch 2) of round 1 is (nan|inf)"):
            state.add(replace(finished, **change))
    assert not list(state.path.glob("round-*"))


def test_run_ids_are_remembered_and_forgotten_with_their_parent(state):
    assert state.run_ids() == {}
    state.remember("one")
    state.remember("one", {3: "child"})
    assert reopened(state).run_ids() == {"parent": "one", "b03": "child"}
    state.remember("two")
    assert state.run_ids() == {"parent": "two"}
    (state.path / "notes.json").write_text("{")
    assert state.run_ids() == {}


def test_finished_stays_so_until_an_iteration_is_lost(state, experiment, tiny_round, said):
    state.add(tiny_round(experiment, 1))
    assert not state.is_finished
    state.finish()
    assert reopened(state).is_finished
    (state.path / "round-01.safetensors").unlink()
    state.rounds(said.append)
    assert not state.is_finished


def test_a_second_process_is_told_which_lock_and_what_to_do(tmp_path: Path):
    program = (
        "import sys; from pathlib import Path; from fkal.results.checkpoint import Checkpoint\n"
        f"with Checkpoint(Path({str(tmp_path)!r}), {ONE!r}):\n"
        "    print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "open\n"
        began = time.monotonic()
        named = rf"state/{ONE}/lock is held by process {holder.pid} on .* since 20.*wait for it or end it"
        with pytest.raises(StateInUse, match=named):
            Checkpoint(tmp_path, ONE).__enter__()
        assert time.monotonic() - began < 10
        holder.kill()
    with Checkpoint(tmp_path, ONE) as state:
        assert state.run_ids() == {}


def test_counts_of_finished_iterations_are_read_without_a_lock_and_change_nothing(state, experiment, tiny_round, said):
    for b in (1, 2):
        state.add(tiny_round(experiment, b))
    before = sorted(path.name for path in state.path.iterdir())
    out = state.path.parents[1]
    counted = Checkpoint(out, experiment.fingerprint).counted(said.append)
    assert [each.b for each in counted] == [1, 2]
    assert counted[1].forward_images == {"descriptors": 90, "train": 24}
    assert sorted(path.name for path in state.path.iterdir()) == before
    assert said == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": "fkal-round-1", "b": 2, "forward_images": []}'])
def test_counts_end_where_an_iteration_cannot_be_read_and_that_is_said(content, state, experiment, tiny_round, said):
    for b in (1, 2, 3):
        state.add(tiny_round(experiment, b))
    (state.path / "round-02.json").write_bytes(content)
    assert [each.b for each in state.counted(said.append)] == [1]
    assert "round 2 is unusable" in said[0]
    assert len(said) == 1


def test_what_was_never_run_has_no_counts(tmp_path, said):
    assert Checkpoint(tmp_path, "0" * 32).counted(said.append) == []
    assert said == []


@pytest.mark.parametrize("name", ["", ".", "..", "../../precious", "f", 32 * "F"])
def test_a_state_directory_has_a_fingerprint_for_its_name(tmp_path, name):
    with pytest.raises(UnsafeName, match="32 hexadecimal digits"):
        Checkpoint(tmp_path, name)


def test_a_state_directory_with_all_that_fkal_leaves_in_it_is_removed(state, experiment, tiny_round, said):
    for b in (1, 2):
        state.add(tiny_round(experiment, b))
    state.describe(b"{}")
    state.remember("1")
    (state.path / "round-02.json").write_bytes(b"")
    state.rounds(said.append)
    (state.path / ".round-03.json.77.tmp").write_bytes(b"")
    assert {path.name for path in state.path.iterdir()} >= {"about.json", "notes.json", "round-02.json.unusable"}
    state.remove()
    assert not state.exists


def test_a_pipe_in_the_place_of_a_kept_file_is_not_waited_for(tmp_path):
    path = tmp_path / "round-01.json"
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is a pipe, not a file") as error:
        regular_bytes(path)
    assert error.value.filename == str(path)
    assert first_line(error.value) == f"{path}: it is a pipe, not a file"


def test_pretrained_weights_of_another_name_or_a_pipe_are_not_taken(tmp_path, capsys):
    one, other, pipe = (tmp_path / f"{name}.safetensors" for name in ("one", "other", "pipe"))
    write_tensors(one, {"w": torch.ones(2)}, "one")
    other.write_bytes(one.read_bytes())
    os.mkfifo(pipe)
    assert read_tensors(one, print, "one") is not None
    assert read_tensors(other, print, "other") is None
    assert read_tensors(pipe, print, "pipe") is None
    said = capsys.readouterr().out
    assert "it is made of something else" in said and "it is a pipe, not a file" in said


@pytest.mark.parametrize("made", [os.mkfifo, os.mkdir])
def test_a_round_whose_file_is_none_is_set_aside_and_run_again(tmp_path, tiny_round, experiment, capsys, made):
    with Checkpoint(tmp_path, experiment.fingerprint) as state:
        state.add(tiny_round(experiment, 1))
        path = state.path / "round-01.safetensors"
        path.unlink()
        made(path)
        assert state.rounds(print) == []
    assert "round 1 is unusable" in capsys.readouterr().out and not path.exists()
