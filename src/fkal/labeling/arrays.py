"""Selection on arrays of one's own: features, gradients, probabilities in; positions out. `fkal.select` is this.

What a method needs depends on its kind. `NEEDS` says it, and a call that lacks something names what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from fkal.acquisition.registry import Acquisition, acquisition, acquisition_of
from fkal.acquisition.settings import AcquisitionConfig
from fkal.config.method_checks import refuse_unable_in_parts
from fkal.config.method_spec import method_layer
from fkal.core import evidence as records
from fkal.core.descriptors import Descriptors, loss_gradient, standardised
from fkal.core.evidence import Evidence, Outputs, PoolOutputs, StreamedOutputs
from fkal.core.kernels import R_ZG
from fkal.core.labels import PSEUDO_LABELS, PseudoLabel
from fkal.core.picks import Picks
from fkal.core.pool_parts import Parts
from fkal.core.pseudo_labels import PoolBatch, Reference
from fkal.core.randomness import stream
from fkal.core.row_stream import PoolDescriptors, Rows, RowStream, StreamedDescriptors, joined
from fkal.core.softmax import margin, wrongness
from fkal.core.whitening import WHITENINGS
from fkal.labeling.array_rows import fitted, refuse_unfinite_rows, rows_of, whole_number

TAP = "features"
STREAM_ABOVE_GB = 2.0
BATCH_ROWS = 1 << 12
"""Pool rows whose labels are guessed at once."""
LEAST_PROBABILITY = 1e-38
"""The logarithm of 0 is infinite, and methods refuse infinite logits; this is about float32's smallest number."""


def select(
    pool: Any,
    targets: Any = None,
    *,
    n: int,
    method: str = "fisher_coverage",
    pool_gradients: Any = None,
    target_gradients: Any = None,
    target_labels: Any = None,
    probabilities: Any = None,
    target_probabilities: Any = None,
    labeled: Any = None,
    labels: Any = None,
    labeled_probabilities: Any = None,
    seed: int = 0,
    stream_above_gb: float = STREAM_ABOVE_GB,
    parts: int | None = None,
) -> Picks:
    """Picks n rows of a pool by features, gradients and probabilities that are at hand. No model is run.

    | methods | what they need besides `pool` |
    | --- | --- |
    | `random`, `all` | nothing |
    | `pcc`, `flqmi`, `gcmi` | `targets` |
    | `pfk...`, `fisher_coverage` | `targets`, and gradients of both; or instead of gradients `probabilities`, \
`target_probabilities` and `target_labels`, from which gradients at the logits are made |
    | `pfk...:ecov`, `:tail_first` | `targets` and `target_labels` |
    | `pfk...:noisy_or`, `:wcov` | the same; `labeled`, `labels` and the probabilities of all three where there are \
labeled images |
    | `pfk...:wcov_zg` | as `pfk...`, and `target_labels`; `labeled`, `labels`, `probabilities` and \
`target_probabilities` where there are labeled images |
    | `coreset` | nothing; `labeled` where there are labeled images |
    | `least_confidence`, `margin`, `softmax_entropy`, `balanced_margin`, `badge` | `probabilities` |
    | `typiclust`, `probcover`, `maxherding` | `probabilities`; `labeled`, `labels` and `labeled_probabilities` where \
there are labeled images |
    | `direct`, `galaxy`, `bait` | `probabilities`, `labeled`, `labels`, `labeled_probabilities` |
    | `uherding` | the same, `target_probabilities` and `target_labels` |

    Methods that run a model themselves (`varr`, `entropy`, `bald`, `mean_std`, `vaal`, `epig`, `base`, `dropquery`)
    are for `fkal.Project` and `fkal run`.

    A pool that would take more than `stream_above_gb` in memory is read in blocks, and the picks are the same. It may
    then be a file: `np.load("pool.npy", mmap_mode="r")`. `typiclust` writes the features of such a pool, in float32,
    to a file in the folder for temporary files (`TMPDIR`) while it clusters them.

    Args:
        pool: Features of the unlabeled images, a row each: a numpy or torch array (n l).
        targets: Features of the images that picks shall resemble, usually misclassified validation images.
        n: How many rows to pick.
        method: A method as `fkal run --method` takes it.
        pool_gradients: Gradients of the loss for each pool row under a guessed label.
        target_gradients: Gradients of the loss for each target under its true label.
        target_labels: Classes of the targets, counted from 0.
        probabilities: Class probabilities of the pool rows (n d).
        target_probabilities: The same of the targets.
        labeled: Features of images that are labeled already.
        labels: Their classes.
        labeled_probabilities: Their class probabilities.
        seed: Seed of every random choice.
        stream_above_gb: GB (10^9 bytes) above which `pool` and `pool_gradients` are streamed; half precision counts \
as float32.
        parts: Parts of the pool that the choice is made in, as the setting `acquisition.parts`; None: the whole pool.

    Returns:
        Positions in the pool in the order of picking, and where the method knows them ranks, scores, targets.

    Raises:
        ValueError: Something is missing or does not fit; the message says what.

    Example:
        >>> import numpy as np
        >>> draws = np.random.default_rng(0)
        >>> pool, targets = draws.normal(size=(100, 8)), draws.normal(size=(5, 8))
        >>> len(select(pool, targets, n=10, method="pcc").positions)
        10
    """
    given = {
        "pool": pool,
        "targets": targets,
        "pool_gradients": pool_gradients,
        "target_gradients": target_gradients,
        "target_labels": target_labels,
        "probabilities": probabilities,
        "target_probabilities": target_probabilities,
        "labeled": labeled,
        "labels": labels,
        "labeled_probabilities": labeled_probabilities,
    }
    n = whole_number("n", n)
    parts = None if parts is None else whole_number("parts", parts)
    settings = AcquisitionConfig(**method_layer(method).values["acquisition"], parts=parts)
    entry = acquisition_of(settings)
    refuse_unable_in_parts(settings)
    given = {name: value for name, value in given.items() if value is not None}
    rows = {name: rows_of(name, value, stream_above_gb=stream_above_gb) for name, value in given.items()}
    arrays = Arrays(method, settings, fitted(rows))
    evidence = arrays.evidence(entry)
    options = {name: getattr(settings, name) for name in entry.options}
    if parts is not None:
        options["parts"] = Parts(parts)
    return partial(entry.select, **options)(evidence, n, stream(seed, "select", "arrays"))


@dataclass(frozen=True)
class Arrays:
    """What a caller gave, by name, for one method."""

    method: str
    settings: AcquisitionConfig
    given: Mapping[str, Rows]

    def evidence(self, entry: Acquisition) -> Evidence:
        """The record that the method reads. Raises ValueError where it cannot be made of arrays."""
        if entry.validation_only:
            raise ValueError(f"method {self.method!r}: it picks nothing; take another one")
        make = MAKERS.get(entry.needs.name)
        if make is None or self.settings.name in RUN_A_MODEL:
            raise ValueError(
                f"method {self.method!r}: it runs a model itself, and arrays are not enough; "
                "take another one, or use fkal.Project"
            )
        if self.has("labeled") != self.has("labels"):
            raise ValueError("labeled and labels belong together; give both, or none")
        return make(self)

    def has(self, *names: str) -> bool:
        """Whether each of these was given."""
        return all(name in self.given for name in names)

    def __getitem__(self, name: str) -> Tensor:
        """What is no array of the pool, and so in memory."""
        rows = self._given(name)
        assert isinstance(rows, Tensor)
        return rows

    def rows(self, name: str) -> Rows:
        """In memory, or as a stream, which is read once to see whether it is finite."""
        rows = self._given(name)
        if isinstance(rows, RowStream):
            refuse_unfinite_rows(name, rows)
        return rows

    def count(self, name: str) -> int:
        """How many rows there are."""
        return len(self._given(name))

    def _given(self, name: str) -> Rows:
        if name not in self.given:
            raise ValueError(f"method {self.method!r} needs {name}; {NEEDED[name]}")
        return self.given[name]

    def logits(self, name: str, rows: str) -> Tensor:
        """Logarithms of the probabilities `name`, one row for each of `rows`."""
        given = self[name]
        self.refuse_other_length(name, rows)
        logits = torch.empty_like(given, dtype=torch.float64)
        for part, into in zip(given.split(BATCH_ROWS), logits.split(BATCH_ROWS), strict=True):
            p = part.double()
            if not (p.isfinite().all() and (p >= 0).all() and (p.sum(dim=1) > 0).all()):
                raise ValueError(f"{name}: a row is negative, empty or not finite; give class probabilities")
            into.copy_((p / p.sum(dim=1, keepdim=True)).clamp(min=LEAST_PROBABILITY).log())
        return logits

    def labels(self, name: str, rows: str) -> Tensor:
        """Classes, one for each of `rows`."""
        self.refuse_other_length(name, rows)
        return self[name].long()

    def refuse_other_length(self, name: str, rows: str) -> None:
        if self.count(name) != self.count(rows):
            raise ValueError(f"{name} has {self.count(name)} rows and {rows} {self.count(rows)}; give one for each")


def _nothing(arrays: Arrays) -> Evidence:
    return records.Nothing(arrays.count("pool"))


def _features(arrays: Arrays) -> Evidence:
    return records.Features(_described(arrays, "pool"), _standard(arrays["targets"]))


def _fisher_scores(arrays: Arrays) -> records.FisherScores:
    """With gradients as given, or with those of the loss at the logits."""
    targets, whitening = arrays["targets"], WHITENINGS[arrays.settings.whitening]
    if arrays.has("pool_gradients") or arrays.has("target_gradients"):
        arrays.refuse_other_length("target_gradients", "targets")
        known = _standard(targets, arrays["target_gradients"])
        unknown = _described(arrays, "pool", "pool_gradients")
        whiten = whitening(known)
        return records.FisherScores(whiten(unknown), whiten(known), torch.full((len(unknown),), -1))
    if not arrays.has("probabilities"):
        raise ValueError(
            f"method {arrays.method!r} needs pool_gradients and target_gradients, or instead of them probabilities, "
            "target_probabilities and target_labels; with features alone take method='pcc' or 'flqmi'"
        )
    logits, target_logits = arrays.logits("probabilities", "pool"), arrays.logits("target_probabilities", "targets")
    y_v = arrays.labels("target_labels", "targets")
    z, z_v = _described(arrays, "pool"), _standard(targets)
    guessed = _pseudo_labels(arrays, z, z_v, y_v)
    known = z_v.with_gradients({TAP: standardised(loss_gradient(target_logits, y_v).to(targets))})
    whiten = whitening(known)
    return records.FisherScores(whiten(_at_logits(z, logits, guessed.y)), whiten(known), guessed.y, guessed.prior)


def _weighed_scores(arrays: Arrays) -> Evidence:
    """Weighed by the model where there are labeled images that it learned from."""
    seen, y_t = _fisher_scores(arrays), arrays.labels("target_labels", "targets")
    if not arrays.has("labeled"):
        weights = torch.ones(len(y_t), dtype=torch.float64)
        return records.WeighedScores(**vars(seen), y_t=y_t, weights=weights, logits=None)
    weights = wrongness(arrays.logits("target_probabilities", "targets"), y_t)
    logits = arrays.logits("probabilities", "pool")
    return records.WeighedScores(**vars(seen), y_t=y_t, weights=weights, logits=logits)


class _Guessed(NamedTuple):
    """Labels of the pool, and its class frequencies and class probabilities where the estimator estimates them."""

    y: Tensor
    prior: Tensor | None = None
    posterior: Tensor | None = None


def _pseudo_labels(arrays: Arrays, z: PoolDescriptors, z_v: Descriptors, y_v: Tensor) -> _Guessed:
    name = arrays.settings.pseudo_label
    label: PseudoLabel = PSEUDO_LABELS[name]
    if label.sees_oracle or label.views != "none":
        raise ValueError(
            f"method {arrays.method!r}: the pseudo-label {name!r} needs a model or true labels; take joint"
        )
    reference = Reference(z_v, y_v, R_ZG[arrays.settings.combine])
    if label.of_pool is not None:
        known = arrays.labels("labels", "labeled") if arrays.has("labels") else y_v[:0]
        return _Guessed(*label.of_pool(z, reference, known))
    logits = arrays.logits("probabilities", "pool") if label.by_softmax else torch.zeros(len(z), 1)
    parts = zip(logits.split(BATCH_ROWS), z.blocks(BATCH_ROWS), strict=True)
    guesses = (label.estimate(PoolBatch(of, block, torch.full((len(of),), -1)), reference) for of, (_, block) in parts)
    return _Guessed(joined(guesses, len(z)), posterior=logits.softmax(dim=1) if label.by_softmax else None)


def _posteriors(arrays: Arrays) -> records.Posteriors:
    """By features alone, but for labels that are the model's."""
    y_v = arrays.labels("target_labels", "targets")
    pool, known = _described(arrays, "pool"), _standard(arrays["targets"])
    guessed = _pseudo_labels(arrays, pool, known, y_v)
    posterior = guessed.posterior
    if posterior is None:
        posterior = one_hot(guessed.y, int(torch.cat([guessed.y, y_v]).max()) + 1)
    posterior = pad(posterior, (0, max(0, int(y_v.max()) + 1 - posterior.shape[1])))
    whiten = WHITENINGS[arrays.settings.whitening](known)
    posterior = posterior.to(pool.z[TAP].dtype)
    return records.Posteriors(whiten(pool), whiten(known), y_v, posterior, guessed.y, guessed.prior)


def _weighed_posteriors(arrays: Arrays) -> Evidence:
    """Weighed by the model where there are labeled images that it learned from."""
    seen = _posteriors(arrays)
    if not arrays.has("labeled"):
        weights, doubt = (torch.ones(n, dtype=torch.float64) for n in (len(seen.targets), seen.n))
        return records.WeighedPosteriors(
            **vars(seen),
            weights=weights,
            doubt=doubt,
            labeled=seen.pool[:0],
            y=seen.y_t[:0],
            labeled_doubt=doubt[:0],
            logits=None,
        )
    whiten = WHITENINGS[arrays.settings.whitening](_standard(arrays["targets"]))
    weights = wrongness(arrays.logits("target_probabilities", "targets"), seen.y_t)
    logits = arrays.logits("probabilities", "pool")
    return records.WeighedPosteriors(
        **vars(seen),
        weights=weights,
        doubt=margin(logits),
        labeled=whiten(_standard(arrays["labeled"])),
        y=arrays.labels("labels", "labeled"),
        labeled_doubt=margin(arrays.logits("labeled_probabilities", "labeled")),
        logits=logits,
    )


def _coverage(arrays: Arrays) -> Evidence:
    pool = arrays.rows("pool")
    return records.Coverage(pool, arrays["labeled"] if arrays.has("labeled") else pool[:0])


def _predictions(arrays: Arrays) -> Evidence:
    return records.Predictions(arrays.logits("probabilities", "pool"))


def _last_layer(arrays: Arrays) -> Evidence:
    pool = _pool_outputs(arrays)
    return records.LastLayer(pool, torch.zeros(pool.logits.shape[1], pool.features.shape[1], dtype=pool.features.dtype))


def _supervised(arrays: Arrays) -> records.Supervised:
    pool = _pool_outputs(arrays)
    if not arrays.has("labeled"):
        if acquisition(arrays.settings.name).random_first:
            arrays["labeled"]
        return records.Supervised(pool, pool[:0], torch.empty(0, dtype=torch.long))
    labeled = _outputs(arrays, "labeled", "labeled_probabilities")
    return records.Supervised(pool, labeled, arrays.labels("labels", "labeled"))


def _calibrated(arrays: Arrays) -> Evidence:
    known = _supervised(arrays)
    y_v = arrays["target_labels"].long()
    arrays.refuse_other_length("target_probabilities", "target_labels")
    logits = arrays.logits("target_probabilities", "target_labels")
    return records.Calibrated(known.pool, known.labeled, known.y, logits, y_v)


def _queried(arrays: Arrays) -> Evidence:
    return records.Queried(arrays.rows("pool"), arrays["targets"])


Make = Callable[[Arrays], Evidence]

MAKERS: Mapping[str, Make] = MappingProxyType(
    {
        "Nothing": _nothing,
        "Features": _features,
        "FisherScores": _fisher_scores,
        "WeighedScores": _weighed_scores,
        "Posteriors": _posteriors,
        "WeighedPosteriors": _weighed_posteriors,
        "Coverage": _coverage,
        "Predictions": _predictions,
        "LastLayer": _last_layer,
        "Supervised": _supervised,
        "Calibrated": _calibrated,
        "Queried": _queried,
    }
)
"""By the name of the record that a method reads; those that are missing need a model."""

RUN_A_MODEL = frozenset({"base", "dropquery"})
"""Methods that read a model's weights as well."""

NEEDED: Mapping[str, str] = MappingProxyType(
    {
        "targets": "features of the images that picks shall resemble, such as misclassified validation images",
        "pool_gradients": "a gradient of the loss for each pool row, under a guessed label",
        "target_gradients": "a gradient of the loss for each target, under its label",
        "target_labels": "the class of each target, counted from 0",
        "probabilities": "class probabilities of the pool rows",
        "target_probabilities": "class probabilities of the targets",
        "labeled": "features of the images that are labeled already",
        "labels": "the class of each labeled image, counted from 0",
        "labeled_probabilities": "class probabilities of the labeled images",
    }
)
"""What each argument is, for a call that lacks it."""


def _described(arrays: Arrays, rows: str, gradients: str | None = None) -> PoolDescriptors:
    """Standardised, and streamed where one of them is."""
    z, g = {TAP: arrays.rows(rows)}, {}
    if gradients is not None:
        arrays.refuse_other_length(gradients, rows)
        g = {TAP: arrays.rows(gradients)}
    in_memory = [block for block in (*z.values(), *g.values()) if isinstance(block, Tensor)]
    if len(in_memory) == len(z) + len(g):
        return _standard(*in_memory)
    return StreamedDescriptors(z, g).mapped({TAP: standardised}, {TAP: standardised})


def _standard(features: Tensor, gradients: Tensor | None = None) -> Descriptors:
    return Descriptors.of({TAP: features}, {} if gradients is None else {TAP: gradients})


def _at_logits(z: PoolDescriptors, logits: Tensor, y: Tensor) -> PoolDescriptors:
    """The same features beside the gradients of the loss at the logits, which a stream makes when they are read."""
    dtype = z.z[TAP].dtype

    def gradients(rows: Tensor | slice) -> Tensor:
        return standardised(loss_gradient(logits[rows], y[rows]).to(dtype))

    if isinstance(z, Descriptors):
        return z.with_gradients({TAP: gradients(slice(None))})
    width = logits.shape[1]
    return z.with_gradients({TAP: RowStream((len(z), width), dtype, logits.device, gradients)})


def _pool_outputs(arrays: Arrays) -> PoolOutputs:
    features, logits = arrays.rows("pool"), arrays.logits("probabilities", "pool")
    if isinstance(features, Tensor):
        return Outputs(logits.to(features), features)
    return StreamedOutputs(logits.to(features.dtype), features)


def _outputs(arrays: Arrays, rows: str, probabilities: str) -> Outputs:
    features = arrays[rows]
    return Outputs(arrays.logits(probabilities, rows).to(features), features)
