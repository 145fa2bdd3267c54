"""Finished experiments as the report reads them, and all their rounds as one table."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd
from torch import Tensor

from fkal.config.schema import about_data, digest_of, flattened
from fkal.engine.rounds import Round
from fkal.experiment.names import dataset_name, settings_read
from fkal.pipeline.publish import curves_of
from fkal.results.class_names import names_by_number
from fkal.results.manifest import ALGORITHM
from fkal.results.outcome import GROUPED, Group, Outcome, groups_of
from fkal.runner.cost import PHASES

Weights = Mapping[str, Tensor]


class SplitFacts(NamedTuple):
    """Of a split file: images by part and class, the rare classes, the digest of the images."""

    class_counts: Mapping[str, Sequence[int]]
    rare: tuple[int, ...]
    data_digest: str


@dataclass(frozen=True)
class Finished:
    """One experiment whose rounds are all there.

    `last_weights` reads the model of its last round; `split` is None where the split's file is gone.
    `made_with` has versions and hardware, as far as they were recorded; `classes` has the names of the classes,
    or nothing where they were not kept.
    """

    outcome: Outcome
    last_weights: Callable[[], Weights]
    split: SplitFacts | None = None
    made_with: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @property
    def known_classes(self) -> tuple[str, ...]:
        """The names of its classes, as it kept them or as the registry has them; nothing where neither knows them."""
        n = len(self.outcome.rounds[-1].labeled_counts)
        return names_by_number(self.outcome.config.data.name, n, [self.classes])

    @property
    def training(self) -> dict[str, Any]:
        """The settings of its model and its training, by which methods may not differ where they are compared.

        Of these a method's name says whether it is pretrained and which layers learn.
        """
        settings = settings_read(self.outcome.config)
        read = {k: v for k, v in settings.items() if k in ("model", "features", "train")}
        layers = {k: v for k, v in read.get("train", {}).items() if k != "layers"}
        return {**read, "train": layers}

    @property
    def variant(self) -> dict[str, Any]:
        """What it shares with all experiments that differ from it in their seeds alone: of two GPUs any will do."""
        config = self.outcome.config
        made = {ALGORITHM: self.made_with[ALGORITHM]} if ALGORITHM in self.made_with else {}
        device = re.split("[: ]", self.made_with.get("device", config.device))[0]
        return {**settings_read(config), "data": about_data(config.tree), "device": device, **made}


@dataclass(frozen=True)
class Material:
    """All that a report is made of: a row per round, and the experiments where more than curves is known.

    `source` are the options that name it on the command line; `notes` say what was left out and why,
    `damaged` what could not be read.
    """

    frame: pd.DataFrame
    finished: Sequence[Finished]
    source: tuple[str, ...]
    notes: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


def material_of(
    finished: Sequence[Finished], source: tuple[str, ...], notes: Sequence[str] = (), damaged: Sequence[str] = ()
) -> Material:
    """Of finished experiments, by what may be compared, method, labels used and seed.

    All methods that are compared have one model and one training: of several the one that most experiments have. A
    curve is made of experiments that differ in nothing but their seeds. Of several variants, told apart by settings
    that are not in a method's name, the one with the most seeds is taken. The notes say what was left out.
    """
    cells: dict[tuple[Group, str, int], dict[str, dict[int, Finished]]] = {}
    left_out = [*notes, *damaged]
    ordered = sorted(finished, key=lambda each: each.outcome.fingerprint)
    pairs = list(zip(ordered, groups_of([each.outcome for each in ordered]), strict=True))
    shown, trained_otherwise = _training_of(pairs), dict[tuple[Group, str, str], list[Finished]]()
    for each, group in pairs:
        outcome = each.outcome
        if each.training != shown[group].training:
            trained_otherwise.setdefault((group, outcome.method, digest_of(each.training)), []).append(each)
            continue
        cell = (group, outcome.method, outcome.rounds[-1].labels_used)
        by_seed = cells.setdefault(cell, {}).setdefault(digest_of(each.variant), {})
        twin = by_seed.setdefault(outcome.config.seed, each)
        if twin is not each:
            left_out.append(
                f"{outcome.fingerprint[:8]}: another {outcome.shown_name}; {twin.outcome.fingerprint[:8]} is shown"
            )
    for (group, _, _), of in trained_otherwise.items():
        left_out.append(_why_not(of, shown[group], of[0].training, shown[group].training))
    chosen: list[Finished] = []
    for variants in cells.values():
        kept, *others = (list(v.values()) for _, v in sorted(variants.items(), key=lambda v: (-len(v[1]), v[0])))
        chosen += kept
        left_out += [_why_not(other, kept[0], other[0].variant, kept[0].variant) for other in others]
    chosen.sort(
        key=lambda each: (dataset_name(each.outcome.config.data), each.outcome.method, each.outcome.config.seed)
    )
    return Material(rounds_frame(chosen), chosen, source, tuple(left_out), tuple(damaged))


def _place(one: Finished) -> tuple[str, str, int]:
    config = one.outcome.config
    return dataset_name(config.data), one.outcome.method, config.seed


def _training_of(pairs: Sequence[tuple[Finished, Group]]) -> dict[Group, Finished]:
    """An experiment of each group with the training that most (method, seed) of the group have."""
    found: dict[Group, dict[str, list[Finished]]] = {}
    for each, group in pairs:
        found.setdefault(group, {}).setdefault(digest_of(each.training), []).append(each)
    return {
        group: max(by_training.values(), key=lambda of: (len({_place(each) for each in of}), _training_digest(of)))[0]
        for group, by_training in found.items()
    }


def _training_digest(of: Sequence[Finished]) -> str:
    return digest_of(of[0].training)


def _why_not(
    others: Sequence[Finished], kept: Finished, of_others: Mapping[str, Any], of_kept: Mapping[str, Any]
) -> str:
    ours, theirs = dict(flattened(of_kept)), dict(flattened(of_others))
    differ = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    said = ", ".join(f"{key} = {theirs.get(key)} (shown: {ours.get(key)})" for key in differ)
    seeds = ", ".join(map(str, sorted(each.outcome.config.seed for each in others)))
    cell = others[0].outcome.shown_name.rpartition("-s")[0]
    return f"{cell}, seed {seeds}: left out, as it has {said}; report it from an --out of its own"


def rounds_frame(finished: Sequence[Finished]) -> pd.DataFrame:
    """One row per seed and round: whose it is, its metrics as fractions, its passes (images) and seconds by phase."""
    frame = curves_of([each.outcome for each in finished])
    whose = [each.outcome.fingerprint for each in finished for _ in each.outcome.rounds]
    frame.insert(0, "fingerprint", whose)
    groups = groups_of([each.outcome for each in finished])
    for name in GROUPED:
        frame[name] = [getattr(g, name) for each, g in zip(finished, groups, strict=True) for _ in each.outcome.rounds]
    rounds = [finished_round for each in finished for finished_round in each.outcome.rounds]
    return pd.concat([frame, pd.DataFrame([_costs(each) for each in rounds])], axis=1)


def _costs(finished: Round) -> dict[str, float]:
    """Seconds are missing, not 0, where none were kept."""
    costs: dict[str, float] = {}
    for phase, belongs in PHASES.items():
        ways = (finished.forward_images, finished.backward_images)
        costs[f"{phase}_passes"] = sum(n for way in ways for name, n in way.items() if belongs(name))
        if finished.seconds:
            costs[f"{phase}_seconds"] = sum(s for name, s in finished.seconds.items() if belongs(name))
    return costs
