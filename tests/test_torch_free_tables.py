"""Tables that are known without torch name what exists with it: neither list has what the other lacks."""

import inspect
from typing import get_args

import pytest

from fkal.acquisition.evidence_kinds import EVIDENCE_KINDS
from fkal.acquisition.fisher import MATCHINGS
from fkal.acquisition.registry import ACQUISITIONS, BY_MATCHING
from fkal.acquisition.settings import COMBINE_NAMES, MATCHING_NAMES, WHITENING_NAMES
from fkal.core.evidence import Evidence
from fkal.core.kernels import R_ZG
from fkal.core.labels import PSEUDO_LABELS
from fkal.core.whitening import WHITENINGS
from fkal.data.registry import DATASETS
from fkal.engine.gathering import GATHERERS
from fkal.models.settings import MODELS
from fkal.object_references import resolved

REFERENCES = {
    **{f"method {name}": entry.function for name, entry in {**ACQUISITIONS, **BY_MATCHING}.items()},
    **{f"label {name}": entry.estimator for name, entry in PSEUDO_LABELS.items()},
    **{f"pool label {name}": entry.pool_estimator for name, entry in PSEUDO_LABELS.items() if entry.pool_estimator},
    **{f"model {name}": entry.builder for name, entry in MODELS.items()},
    **{f"dataset {name}": entry.loader for name, entry in DATASETS.items()},
}


def test_names_of_settings_are_those_of_the_functions_they_choose():
    assert list(COMBINE_NAMES) == list(R_ZG)
    assert list(MATCHING_NAMES) == [*MATCHINGS, *BY_MATCHING]
    assert list(WHITENING_NAMES) == list(WHITENINGS)


@pytest.mark.parametrize("what", list(REFERENCES))
def test_a_reference_names_a_function(what):
    reference = REFERENCES[what]
    assert isinstance(reference, str)
    assert inspect.isfunction(resolved(reference))


def test_every_kind_of_evidence_has_a_record_and_a_gatherer():
    assert {kind.record for kind in EVIDENCE_KINDS.values()} == set(get_args(Evidence)) == set(GATHERERS)
