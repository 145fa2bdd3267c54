import pytest
import torch

from fkal.data.splits import split_bytes
from fkal.experiment.shared_files import ensure_split, read_tensors, shared_tensors, write_tensors


def made(tensors):
    yield from ()
    return tensors


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_kept_tensors_that_are_not_finite_are_told_and_made_again(tmp_path, value):
    path, said = tmp_path / f"{32 * 'a'}.safetensors", []
    write_tensors(path, {"weight": torch.tensor([1.0, value])}, path.stem)
    sound = {"weight": torch.tensor([1.0, 2.0]), "steps": torch.tensor(3)}
    steps = shared_tensors(path, lambda: made(sound), said.append)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == sound
    assert said == [f"{path}: not what was kept there (NaN or infinite numbers); it is made again"]
    kept = read_tensors(path, said.append, path.stem)
    assert kept is not None and torch.equal(kept["weight"], sound["weight"]) and len(said) == 1


def test_a_split_file_of_another_size_is_not_read_before_it_is_drawn_again(experiment, tmp_path, said):
    path = tmp_path / "split.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    ensure_split(path, experiment.split, said.append)
    assert path.read_bytes() == split_bytes(experiment.split)
    assert len(said) == 1 and "drawn again" in said[0]
