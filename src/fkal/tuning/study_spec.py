"""What a study is: one configuration, the space around it, what is wanted, on which seeds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fkal.config.schema import Config, about_data, digest_of
from fkal.experiment.names import bias_name, dataset_name, method_name
from fkal.folders import below
from fkal.tuning.objectives import Objective
from fkal.tuning.search_space import Space, with_settings


@dataclass(frozen=True)
class StudySpec:
    """`base` has a holdout; its seed is that of none of the experiments, which have `seeds`.

    `file` are the settings of the params file alone, which is what experiments have beneath tuned values. `source` is
    the digest of the files that the images come from; empty where a plug-in's dataset does not name them.
    """

    base: Config
    file: Config
    space: Space
    objectives: tuple[Objective, ...]
    seeds: tuple[int, ...]
    out: Path
    source: str = ""

    @property
    def dataset(self) -> str:
        """Its name for people and files."""
        return dataset_name(self.base.data)

    @property
    def objective(self) -> str:
        return ",".join(each.name for each in self.objectives)

    @property
    def name(self) -> str:
        """`digits-ir20-pfk_joint-1a2b3c4d`; its end stands for all that makes studies differ."""
        digest = digest_of([self.settings_digest, self.source]) if self.source else self.settings_digest
        return f"{self._stem(self.dataset)}-{digest[:8]}"

    def is_alike(self, study: str) -> bool:
        """Whether a study is of this dataset, bias and method; earlier versions called all own trees `folder`."""
        stem, _, digest = study.rpartition("-")
        stems = {self._stem(dataset) for dataset in (self.dataset, self.base.data.name)}
        return stem in stems and re.fullmatch(r"[0-9a-f]{8}", digest) is not None

    def _stem(self, dataset: str) -> str:
        method = re.sub(r"[^\w.+]", "-", method_name(self.base))
        return f"{dataset}-{bias_name(self.base.bias)}-{method}"

    @property
    def settings_digest(self) -> str:
        """Of all but the images. The draws of trials go by it."""
        tree = self.base.digest_tree
        return digest_of(
            {
                "base": {**tree, "data": about_data(tree), "seed": None},
                "space": self.space.described,
                "objective": self.objective,
                "seeds": list(self.seeds),
                "holdout": self.base.holdout,
            }
        )

    @property
    def folder(self) -> Path:
        return below(self.out, "tune")

    @property
    def default_configs(self) -> list[Config]:
        return self._seeded({})

    def configs(self, params: Mapping[str, Any]) -> list[Config]:
        """A trial's configurations, one a seed. Raises EmptyTaps or ConfigError for what cannot be run."""
        return self._seeded(self.space.settings(params))

    def _seeded(self, settings: Mapping[str, Any]) -> list[Config]:
        config = with_settings(self.base, settings)
        return [config.model_copy(update={"seed": seed}) for seed in self.seeds]
