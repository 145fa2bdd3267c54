"""The registry of pseudo-labels: what each is and asks of the engine. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from fkal.object_references import resolved

if TYPE_CHECKING:
    from fkal.core.pseudo_labels import Estimate, EstimatePool


@dataclass(frozen=True)
class PseudoLabel:
    """An estimator (a reference to a function), what it is in one line, and what it asks of the engine.

    `sees_oracle` marks an ablation that reads true labels. With `own_g_v` the validation gradients,
    too, are taken under the estimator's label, and not under y_v, so that pool and validation are
    compared under one rule (decision 006); it then reads no reference. `views` says what a batch
    has to offer: `none`, the images as they `clean` are (one view), or k `perturbed` ones. `by_kernel`: it compares
    by the reference's kernel, so that its labels depend on how R_z and R_g meet. An estimator with `of_pool`
    looks at all open images at once, for which they are described twice; asked for a batch, it takes it for the pool.
    With `grid` > 1 that first description, and one of D_v beside it, averages feature maps in `grid` x `grid` fields
    (where no tap returns maps, it is what it is with 1); the estimate itself takes z as it is. Class probabilities are
    those of `of_pool`, or with `by_softmax` the model's; of all others the label has 1.
    """

    estimator: str
    summary: str
    sees_oracle: bool = False
    own_g_v: bool = False
    views: Literal["none", "clean", "perturbed"] = "none"
    by_kernel: bool = False
    pool_estimator: str = ""
    grid: int = 1
    by_softmax: bool = False

    @property
    def estimate(self) -> Estimate:
        """The estimator of a batch; its module is imported here."""
        function: Estimate = resolved(self.estimator)
        return function

    @property
    def of_pool(self) -> EstimatePool | None:
        """The estimator of the whole pool, if it has one."""
        return resolved(self.pool_estimator) if self.pool_estimator else None

    @property
    def passes(self) -> str:
        """By what name the passes that it takes go."""
        if not self.pool_estimator:
            return self.views
        return "pool" if self.grid == 1 else "pool and validation"


PSEUDO_LABELS: Mapping[str, PseudoLabel] = MappingProxyType(
    {
        "joint": PseudoLabel("fkal.core.pseudo_labels:joint", "label of the most similar validation image by R_z"),
        "joint_shift": PseudoLabel(
            "fkal.core.pseudo_labels:joint_shift_of_batch",
            "the most probable label, by validation images and an estimate of the pool's class frequencies",
            pool_estimator="fkal.core.pseudo_labels:joint_shift",
        ),
        "joint_shift_grid": PseudoLabel(
            "fkal.core.pseudo_labels:joint_shift_of_batch",
            "joint_shift by features averaged in 2 x 2 fields of each map instead of over all of it",
            pool_estimator="fkal.core.pseudo_labels:joint_shift",
            grid=2,
        ),
        "joint_zg": PseudoLabel(
            "fkal.core.pseudo_labels:joint_zg",
            "label of the most similar validation image by R_zg",
            views="clean",
            by_kernel=True,
        ),
        "predicted": PseudoLabel(
            "fkal.core.pseudo_labels:predicted", "the model's own arg max", own_g_v=True, by_softmax=True
        ),
        "trace": PseudoLabel(
            "fkal.core.pseudo_labels:trace",
            "class with the largest tr(C_zg) over K Monte Carlo views",
            own_g_v=True,
            views="perturbed",
        ),
        "mutual_information": PseudoLabel(
            "fkal.core.pseudo_labels:mutual_information",
            "class with the largest I(z; g) over K Monte Carlo views",
            own_g_v=True,
            views="perturbed",
        ),
        "mutual_information_diagonal": PseudoLabel(
            "fkal.core.pseudo_labels:mutual_information_diagonal",
            "the same from the diagonals alone",
            own_g_v=True,
            views="perturbed",
        ),
        "true": PseudoLabel(
            "fkal.core.pseudo_labels:true", "the true label: an upper limit, not a method", sees_oracle=True
        ),
    }
)
