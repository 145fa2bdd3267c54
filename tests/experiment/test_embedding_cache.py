"""The files of embeddings: found by content, added to, and made again where they are damaged."""

import pytest
import torch

from fkal.experiment.embedding_cache import EmbeddingFiles


def ids(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.uint8)[:, None].expand(-1, 16).contiguous()


def rows_of(n: int):
    """Makes n rows to be filled, the same ones each time."""
    made: list[torch.Tensor] = []

    def of_width(width: int) -> torch.Tensor:
        made.append(made[0] if made else torch.zeros(n, width))
        return made[-1]

    return of_width


@pytest.fixture
def files(tmp_path) -> EmbeddingFiles:
    return EmbeddingFiles(tmp_path, {"weights": "abc", "size": 32}, [].append)


def test_rows_come_back_in_the_order_of_the_ids(files):
    files.write(ids(1, 2, 3), torch.arange(6.0).view(3, 2))
    files.write(ids(9), torch.tensor([[7.0, 8.0]]))
    is_known, rows = files.read(ids(9, 5, 2, 9), rows_of(4))
    assert is_known.tolist() == [True, False, True, True]
    assert rows.tolist() == [[7.0, 8.0], [0.0, 0.0], [2.0, 3.0], [7.0, 8.0]]


def test_nothing_is_known_of_an_empty_folder(files):
    is_known, rows = files.read(ids(1, 2), rows_of(2))
    assert not is_known.any() and len(rows) == 0


def test_other_weights_have_another_folder(files, tmp_path):
    assert EmbeddingFiles(tmp_path, {"weights": "abd", "size": 32}, print).path != files.path


def test_a_damaged_file_is_said_removed_and_made_again(tmp_path):
    said: list[str] = []
    files = EmbeddingFiles(tmp_path, {"weights": "abc"}, said.append)
    files.write(ids(1), torch.ones(1, 2))
    (file,) = files.path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-3])
    assert not files.read(ids(1), rows_of(1))[0].any()
    assert "made again" in said[0] and not file.exists()
    files.write(ids(1), torch.ones(1, 2))
    assert files.read(ids(1), rows_of(1))[0].all()
