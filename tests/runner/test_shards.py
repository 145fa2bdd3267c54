"""Shards of a grid: together they are the grid."""

import pytest

from fkal.config.schema import ConfigError
from fkal.runner.shards import in_shard


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_shards_have_each_experiment_once(count):
    experiments = list(range(7))
    shards = [in_shard(experiments, f"{index}/{count}") for index in range(count)]
    assert sorted(one for shard in shards for one in shard) == experiments
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_without_a_shard_it_is_the_grid():
    assert in_shard("abc", None) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("shard", "part"),
    [
        ("", "i/n"),
        ("1", "i/n"),
        ("-1/2", "i/n"),
        ("0/0", "of 0 shards"),
        ("2/2", "the last 1/2"),
        ("1/2/3", "i/n"),
        ("\u0661/2", "i/n"),
        ("1/999999999", "i/n"),
        ("3/4", "there are 3 experiments"),
    ],
)
def test_what_is_no_shard_is_refused(shard, part):
    with pytest.raises(ConfigError, match=part):
        in_shard([1, 2, 3], shard)
