"""The contract that every acquisition keeps."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from fkal.acquisition.evidence_kinds import FEATURES
from fkal.acquisition.fisher import MATCHINGS
from fkal.acquisition.registry import ACQUISITIONS, BY_MATCHING, Acquisition, acquisition, acquisition_of
from fkal.acquisition.settings import AcquisitionConfig
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import (
    Calibrated,
    Coverage,
    Discrimination,
    Evidence,
    Features,
    FisherScores,
    LastLayer,
    Nothing,
    Outputs,
    Posteriors,
    Predictions,
    PredictiveInformation,
    Queried,
    Revealed,
    Supervised,
    WeighedPosteriors,
    WeighedScores,
)
from fkal.core.kernels import R_ZG
from fkal.core.labels import PSEUDO_LABELS
from fkal.core.pool_parts import Parts
from fkal.core.uncertainty import uncertainty
from fkal.experiment.names import METHOD_SETTINGS

OPTIONS = {"combine": list(R_ZG), "matching": list(MATCHINGS)}
"""Every value of every option that an acquisition may take."""

ENTRIES = {**ACQUISITIONS, **{f"pfk:{matching}": entry for matching, entry in BY_MATCHING.items()}}
"""All methods, and what stands for one of them under a matching."""


def variants() -> list:
    found = []
    for name, entry in ENTRIES.items():
        if entry.validation_only:  # it picks none
            continue
        choices = [{}]
        for option in entry.options:
            choices = [{**chosen, option: value} for chosen in choices for value in OPTIONS[option]]
        found += [pytest.param(name, chosen, id="-".join([name, *chosen.values()])) for chosen in choices]
    return found


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def evidence(needs: type[Evidence], *, n: int, targets: int, seed: int = 0) -> Evidence:
    draws = seeded(seed)

    def described(rows: int, with_grad: bool) -> Descriptors:
        z = {tap: torch.rand(rows, width, generator=draws) for tap, width in (("a", 4), ("b", 6))}
        g = {tap: torch.randn(rows, width, generator=draws) for tap, width in (("a", 4), ("b", 6))}
        return Descriptors.of(z, g if with_grad else None)

    def outputs(rows: int) -> Outputs:
        return Outputs(torch.randn(rows, 3, generator=draws), torch.rand(rows, 5, generator=draws))

    def labels(rows: int) -> Tensor:
        return torch.randint(3, (rows,), generator=draws)

    match needs.__name__:
        case "Nothing":
            return Nothing(n)
        case "Features":
            return Features(described(n, False), described(targets, False))
        case "FisherScores":
            guessed = labels(n)
            return FisherScores(described(n, True), described(targets, True), guessed)
        case "WeighedScores":
            return WeighedScores(
                described(n, True), described(targets, True), labels(n),
                y_t=labels(targets), weights=torch.rand(targets, generator=draws),
                logits=torch.randn(n, 3, generator=draws),
            )  # fmt: skip
        case "Posteriors" | "WeighedPosteriors":
            known = {
                "pool": described(n, False),
                "targets": described(targets, False),
                "y_t": labels(targets),
                "posterior": torch.randn(n, 3, generator=draws).softmax(dim=1),
                "pseudo_labels": labels(n),
                "prior": None,
            }
            if needs is Posteriors:
                return Posteriors(**known)
            weights, doubt, labeled_doubt = (torch.rand(rows, generator=draws) for rows in (targets, n, 4))
            return WeighedPosteriors(
                **known,
                weights=weights,
                doubt=doubt,
                labeled=described(4, False),
                y=labels(4),
                labeled_doubt=labeled_doubt,
                logits=torch.randn(n, 3, generator=draws),
            )
        case "Uncertainty":
            return uncertainty(torch.randn(6, n, 3, generator=draws).softmax(dim=2))
        case "Coverage":
            return Coverage(torch.rand(n, 5, generator=draws), torch.rand(targets - 1, 5, generator=draws))
        case "Discrimination":
            return Discrimination(torch.rand(n, generator=draws, dtype=torch.float64))
        case "Predictions":
            return Predictions(torch.randn(n, 3, generator=draws))
        case "LastLayer":
            return LastLayer(outputs(n), torch.randn(3, 5, generator=draws))
        case "Supervised":
            return Supervised(outputs(n), outputs(targets), labels(targets))
        case "Calibrated":
            logits = torch.randn(targets, 3, generator=draws)
            return Calibrated(outputs(n), outputs(targets), labels(targets), logits, labels(targets))
        case "Revealed":
            known, weight = outputs(targets), torch.randn(3, 5, generator=draws)
            return Revealed(
                outputs(n), outputs(targets), labels(targets), y_pool=labels(n), weight=weight, known=known,
                y_v=labels(targets),
            )  # fmt: skip
        case "Queried":
            return Queried(torch.rand(n, 5, generator=draws), torch.rand(targets, 5, generator=draws))
        case "PredictiveInformation":
            return PredictiveInformation(torch.rand(n, generator=draws))
    raise AssertionError(needs)


def tensors(value: Any) -> Iterator[Tensor]:
    """All that a record holds, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors(part)


def asked_for(name: str, p: int) -> int:
    """Of the pool of 20; a method that labels the whole pool takes no less, one that labels nothing takes none."""
    if ENTRIES[name].validation_only:
        return 0
    return 20 if ENTRIES[name].whole_pool else p


@pytest.mark.parametrize(("name", "options"), variants())
@pytest.mark.parametrize("targets", [1, 3, 6, 7, 15])
@pytest.mark.parametrize("p", [1, 6, 20])
def test_it_picks_p_distinct_positions_of_the_pool(name, options, targets, p):
    entry, p = ENTRIES[name], asked_for(name, p)
    seen = evidence(entry.needs.record, n=20, targets=targets)
    picks = entry.select(seen, p, seeded(0), **options)
    positions = picks.positions.tolist()
    assert picks.positions.dtype == torch.long
    assert len(positions) == len(set(positions)) == p
    assert set(positions) <= set(range(20))
    for column in (picks.ranks, picks.scores, picks.targets):
        assert column is None or column.shape == (p,)
    if picks.targets is not None:
        assert set(picks.targets.tolist()) <= set(range(targets))


@pytest.mark.parametrize(("name", "options"), variants())
@pytest.mark.parametrize("targets", [3, 15])
def test_the_same_generator_seed_gives_the_same_choice(name, options, targets):
    entry = ENTRIES[name]
    choices = []
    for _ in range(2):
        seen = evidence(entry.needs.record, n=20, targets=targets)
        choices.append(entry.select(seen, asked_for(name, 5), seeded(7), **options).positions)
        torch.rand(3)  # what others draw must not matter
    assert torch.equal(*choices)


@pytest.mark.parametrize(("name", "options"), variants())
@pytest.mark.parametrize("targets", [3, 40])
@pytest.mark.parametrize("p", [21, 100])
def test_more_picks_than_the_pool_has_are_refused(name, options, targets, p):
    entry = ENTRIES[name]
    seen = evidence(entry.needs.record, n=20, targets=targets)
    refusal = "picks none; ask for 0" if entry.validation_only else "20"
    with pytest.raises(ValueError, match=refusal):
        entry.select(seen, p, seeded(0), **options)


def in_parts() -> list:
    return [each for each in variants() if ENTRIES[each.values[0]].in_parts]


@pytest.mark.parametrize(("name", "options"), in_parts())
@pytest.mark.parametrize("targets", [1, 3, 15])
@pytest.mark.parametrize("count", [2, 7, 100])
def test_in_parts_it_picks_p_distinct_positions_whichever_part_is_done_first(name, options, targets, count):
    def last_first(work, parts):
        return [work(part.in_memory()) for part in reversed(parts)][::-1]

    entry = ENTRIES[name]
    seen = evidence(entry.needs.record, n=20, targets=targets)
    picks = entry.select(seen, 6, seeded(0), **options, parts=Parts(count))
    again = entry.select(seen, 6, seeded(0), **options, parts=Parts(count, last_first))
    assert len(set(picks.positions.tolist())) == 6
    assert set(picks.positions.tolist()) <= set(range(20))
    assert torch.equal(picks.positions, again.positions)
    for before, after in zip(vars(picks).values(), vars(again).values(), strict=True):
        assert (before is None and after is None) or torch.equal(before, after)


@pytest.mark.parametrize(("name", "options"), variants())
def test_evidence_is_left_as_it_was(name, options):
    entry = ENTRIES[name]
    seen, untouched = (evidence(entry.needs.record, n=20, targets=9) for _ in range(2))
    entry.select(seen, asked_for(name, 4), seeded(0), **options)
    assert seen.n == 20
    for after, before in zip(tensors(seen), tensors(untouched), strict=True):
        assert torch.equal(after, before)


@pytest.mark.parametrize("name", list(ACQUISITIONS))
def test_it_says_what_it_is_and_where_it_comes_from(name):
    entry = acquisition(name)
    assert entry is ACQUISITIONS[name]
    assert entry.summary
    assert entry.reference


@pytest.mark.parametrize("name", list(ACQUISITIONS))
@pytest.mark.parametrize("pseudo_label", list(PSEUDO_LABELS))
def test_what_it_reads_are_settings(name, pseudo_label):
    reads = ACQUISITIONS[name].reads(pseudo_label)
    assert reads <= {field.name for field in fields(AcquisitionConfig)} | {"vaal"}
    assert reads - {"vaal"} <= METHOD_SETTINGS  # so that what is not read can be left out of a fingerprint


def test_views_are_read_where_a_pseudo_label_looks_at_them():
    views = {"samples", "view_degrees", "view_noise"}
    pfk = {"taps", "pseudo_label", "combine", "matching", "whitening", "parts"}
    for name in ("trace", "mutual_information", "mutual_information_diagonal"):
        assert ACQUISITIONS["pfk"].reads(name) == pfk | views
    for name in ("joint", "joint_shift", "joint_shift_grid", "joint_zg", "predicted", "true"):
        assert ACQUISITIONS["pfk"].reads(name) == pfk
    assert ACQUISITIONS["pcc"].reads("trace") == {"taps", "parts"}
    without_g = {"taps", "pseudo_label", "matching", "whitening"}
    assert BY_MATCHING["noisy_or"].reads("joint") == without_g
    for matching in ("ecov", "wcov"):
        assert BY_MATCHING[matching].reads("joint_shift_grid") == without_g | {"parts"}
    assert BY_MATCHING["wcov_zg"].reads("joint") == without_g | {"combine", "parts"}
    assert BY_MATCHING["ecov"].reads("joint_zg") == without_g | {"combine", "parts"}  # the label's own kernel
    assert ACQUISITIONS["random"].reads("trace") == ACQUISITIONS["all"].reads("trace") == set()
    assert ACQUISITIONS["varr"].reads("trace") == {"samples", "ensemble"}
    assert ACQUISITIONS["coreset"].reads("trace") == {"taps"}
    assert ACQUISITIONS["vaal"].reads("trace") == {"vaal"}
    assert ACQUISITIONS["epig"].reads("trace") == {"samples"}
    assert ACQUISITIONS["badge"].reads("trace") == ACQUISITIONS["uherding"].reads("trace") == set()


def test_a_matching_may_need_other_evidence_than_the_method():
    assert acquisition_of(AcquisitionConfig(name="pfk", matching="ecov")) is BY_MATCHING["ecov"]
    assert acquisition_of(AcquisitionConfig(name="pfk", matching="coverage")) is ACQUISITIONS["pfk"]
    assert acquisition_of(AcquisitionConfig(name="margin", matching="ecov")) is ACQUISITIONS["margin"]
    assert not set(BY_MATCHING) & set(MATCHINGS)


def test_what_needs_a_trained_model_picks_at_random_first():
    """The paper's uncertainty methods, VAAL, and all that go by class probabilities; features theta^0 has as well."""
    first = {name for name, entry in ACQUISITIONS.items() if entry.random_first}
    of_probabilities = {"least_confidence", "margin", "softmax_entropy", "balanced_margin", "base", "badge"}
    assert (
        first == {"varr", "entropy", "bald", "mean_std", "vaal", "direct", "galaxy", "epig", "bait"} | of_probabilities
    )


@pytest.mark.parametrize("p", [1, 19])
def test_the_whole_pool_is_not_a_part_of_it(p):
    with pytest.raises(ValueError, match=f"{p} picks of a pool of 20; everything is 20"):
        ACQUISITIONS["all"].select(Nothing(20), p, seeded(0))


def test_an_unknown_name_is_refused_with_the_closest_one():
    with pytest.raises(ValueError, match=r"unknown method 'pkf'; did you mean 'pfk'\? known: random, pcc, pfk"):
        acquisition("pkf")
    with pytest.raises(ValueError, match=r"unknown method 'zzzzzz'; known: random, pcc, pfk"):
        acquisition("zzzzzz")


def test_a_method_of_another_package_is_known_by_name_and_loaded_when_it_is_used(monkeypatch):
    loads = []

    class Point:
        name = "ours"

        def load(self):
            loads.append(self.name)
            return Acquisition(lambda evidence, p, generator: None, FEATURES, "ours", "us")

    monkeypatch.setattr("fkal.object_references.entry_points", lambda group: [Point()])
    with pytest.raises(ValueError, match=r"unknown method 'our'; did you mean 'ours'\?"):
        acquisition("our")
    assert not loads
    assert acquisition("ours").reads("joint") == {"taps"}
    assert acquisition("ours").select(None, 1, None) is None
    assert loads == ["ours", "ours"]
