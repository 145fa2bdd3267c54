"""Finished experiments are read without torch as they are with it."""

import pytest

from fkal.config.schema import ConfigError
from fkal.report.load.round_folders import rounds_in
from fkal.results.round_io import round_bytes
from fkal.results.run_summary import summaries_in
from fkal.tracking.metrics import selected_counts


@pytest.fixture
def folder(tmp_path, experiment, tiny_round):
    for b in (1, 2, 3):
        tensors, facts = round_bytes(tiny_round(experiment, b))
        (tmp_path / f"round-{b:02d}.safetensors").write_bytes(tensors)
        (tmp_path / f"round-{b:02d}.json").write_bytes(facts)
    return tmp_path


def test_a_summary_has_the_figures_and_picks_of_the_round(folder):
    summaries, rounds = summaries_in(folder), rounds_in(folder, timed_files=True)
    assert [each.b for each in summaries] == [1, 2, 3]
    for summary, whole in zip(summaries, rounds, strict=True):
        for name in ("labels_used", "measured", "metrics", "forward_images", "backward_images", "seconds"):
            assert getattr(summary, name) == getattr(whole, name), name
        assert tuple(summary.labeled_counts) == whole.labeled_counts
        assert summary.selected_counts == selected_counts(whole)
        assert summary.indices == whole.selection.indices.tolist()


def test_a_round_that_is_not_whole_names_its_file(folder):
    (folder / "round-02.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"round-02\.json: its safetensors file is not the one"):
        summaries_in(folder)
    (folder / "round-02.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"round-02\.json: .*No such file"):
        summaries_in(folder)
