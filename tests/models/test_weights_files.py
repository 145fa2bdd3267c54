"""Files of weights: tensors are read, whatever else is in them is refused and not run."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fkal.errors import ConfigError, MissingWeights
from fkal.models.weights_files import checksum, read_weights

STATE = {"w": torch.arange(6.0).view(2, 3), "b": torch.ones(2)}


class RunsCode:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_the_same_tensors_have_one_digest_whatever_file_they_come_from(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    torch.save(STATE, tmp_path / "a.pt")
    torch.save({"state_dict": {f"module.{name}": value for name, value in STATE.items()}}, tmp_path / "a.pth")
    digests = {checksum(read_weights(str(tmp_path / f"a.{end}"))) for end in ("safetensors", "pt", "pth")}
    assert digests == {checksum(STATE)}


def test_a_changed_number_changes_the_digest():
    assert checksum({**STATE, "b": torch.tensor([1.0, 2.0])}) != checksum(STATE)


def test_an_absent_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(MissingWeights, match="no such file"):
        read_weights(str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize("end", ["pt", "pth", "bin"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, end):
    file, trace = tmp_path / f"evil.{end}", tmp_path / "made"
    torch.save({"w": torch.ones(1), "x": RunsCode(trace)}, file)
    with pytest.raises(ConfigError, match="holds more than tensors") as refused:
        read_weights(str(file))
    assert "to `False`" not in str(refused.value)
    plain = tmp_path / f"plain.{end}"
    plain.write_bytes(pickle.dumps(RunsCode(trace)))
    with pytest.raises(ConfigError, match="not a file of weights alone"):
        read_weights(str(plain))
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"abc", b"not weights", b"\x00" * 100])
@pytest.mark.parametrize("end", ["safetensors", "pt"])
def test_a_file_of_anything_else_is_refused(tmp_path, content, end):
    (tmp_path / f"x.{end}").write_bytes(content)
    with pytest.raises(ConfigError):
        read_weights(str(tmp_path / f"x.{end}"))


def test_a_tensor_alone_is_no_state_dict(tmp_path):
    torch.save(torch.ones(3), tmp_path / "one.pt")
    with pytest.raises(ConfigError, match="no state dict"):
        read_weights(str(tmp_path / "one.pt"))
