"""Algorithm 1 as a generator: one `Round` an iteration, `Progress` in between.

Whoever wants to track, store or draw iterates; the loop knows nothing of them.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from fkal.acquisition import random
from fkal.core.evidence import Evidence, Features, FisherScores, Nothing
from fkal.core.picks import Picks
from fkal.core.pool import Pool
from fkal.core.randomness import stream
from fkal.data.images import ImageSet
from fkal.engine.describing import Keep, not_kept
from fkal.engine.evaluation import accuracies, confusion_matrix
from fkal.engine.gathering import Gathering, Scene, gather
from fkal.engine.metering import Meter
from fkal.engine.progress import Progress
from fkal.engine.rounds import FEW_CLASSES, Round, Selection
from fkal.engine.settings import TrainConfig
from fkal.engine.training import fit
from fkal.models.ensemble import members_of

Weights = Mapping[str, Tensor]
Select = Callable[[Evidence, int, torch.Generator], Picks]
Oracle = Callable[[Tensor], Tensor]
Protocol = Literal["last", "paper"]


@dataclass(frozen=True)
class Problem:
    """The data of one experiment: which images are pool, validation and test.

    `pool` and `validation` index `train`, `test` indexes `test_images`; `minority` names the
    under-represented classes. `measured` is what metrics call the images of `test`: where they are
    a part held out of validation, and no test set, `holdout`.
    """

    train: ImageSet
    test_images: ImageSet
    pool: Int[Tensor, " n"]
    validation: Int[Tensor, " m"]
    test: Int[Tensor, " t"]
    minority: tuple[int, ...]
    measured: str = "test"


@dataclass(frozen=True)
class Method:
    """One way to pick: the evidence it needs, how that is gathered, and how it selects from it.

    With `random_first` the first iteration, before any label, picks at random.
    """

    needs: type[Evidence]
    select: Select
    gathering: Gathering
    budget: int
    rounds: int
    random_first: bool = False


@dataclass(frozen=True)
class ActiveLearning:
    """Algorithm 1 for one problem, method and seed.

    Of an `Ensemble` each member is trained by itself, from its own weights and in an order of its
    own; what is measured is the mean over members, and what needs one model asks the first.

    `protocol` `last` keeps each iteration's last epoch. `paper` is the authors' rule: the epoch
    with the best *test* accuracy is kept, reported and gone on from; it exists to compare with
    the published curves and for nothing else.

    `keep` finds the descriptors of `theta_0`, which the first iteration reads, where they were kept.
    """

    problem: Problem
    method: Method
    model: nn.Module
    theta_0: Weights
    oracle: Oracle
    training: TrainConfig
    protocol: Protocol
    seed: int
    device: torch.device
    keep: Keep = not_kept

    def first_evidence(self) -> Generator[Progress]:
        """What the first iteration gathers, for the sake of what `keep` keeps of it."""
        self.model.load_state_dict(self.theta_0)
        if not self.method.random_first:
            yield from gather(self._scene(1, Pool.unlabeled(self.problem.pool), Meter(self.device)), self.method.needs)

    def rounds(self, finished: Sequence[Round] = ()) -> Generator[Progress | Round]:
        """The iterations after the `finished` ones, exactly as if those had just been run."""
        pool = Pool.unlabeled(self.problem.pool)
        for past in finished:
            pool = pool.label(past.selection.indices)
        weights = finished[-1].weights if finished else self.theta_0
        for b in range(len(finished) + 1, self.method.rounds + 1):
            this = yield from self._round(b, pool, weights)
            pool, weights = pool.label(this.selection.indices), this.weights
            yield this

    def _round(self, b: int, pool: Pool, weights: Weights) -> Generator[Progress, None, Round]:
        meter = Meter(self.device)
        _reset_peak_memory(self.device)
        self.model.load_state_dict(weights)
        selection, about_selection = yield from self._select(b, pool, meter)
        pool = pool.label(selection.indices)
        losses, epoch = yield from self._train(b, pool, meter)
        confusion, scores = self._evaluate(meter)
        counts = torch.bincount(self.oracle(pool.labeled), minlength=len(confusion))
        return Round(
            b=b,
            labels_used=len(pool.labeled),
            selection=selection,
            metrics={**scores, **about_selection},
            train_loss=tuple(losses),
            epoch=epoch,
            confusion=confusion,
            labeled_counts=tuple(counts.tolist()),
            forward_images=dict(meter.forward_images),
            backward_images=dict(meter.backward_images),
            seconds=dict(meter.seconds),
            peak_memory_mb=_peak_memory_mb(self.device),
            weights=_snapshot(self.model),
        )

    def _select(
        self, b: int, pool: Pool, meter: Meter
    ) -> Generator[Progress, None, tuple[Selection, dict[str, float]]]:
        method = self.method
        needs, select = (Nothing, _at_random) if method.random_first and b == 1 else (method.needs, method.select)
        with meter.phase("descriptors"):
            evidence, rows = yield from gather(self._scene(b, pool, meter), needs)
        with meter.phase("select"):
            picks = select(evidence, method.budget, stream(self.seed, "select", b))
        selection = self._labeled(picks, pool.open, rows, evidence)
        return selection, self._about(selection, evidence, pool.open)

    def _scene(self, b: int, pool: Pool, meter: Meter) -> Scene:
        return Scene(
            members=members_of(self.model),
            images=self.problem.train,
            open_pool=pool.open,
            labeled=pool.labeled,
            validation=self.problem.validation,
            settings=self.method.gathering,
            generator=stream(self.seed, "gather", b),
            meter=meter,
            keep=self.keep if b == 1 else not_kept,
        )

    def _labeled(self, picks: Picks, open_pool: Tensor, rows: Tensor, evidence: Evidence) -> Selection:
        """The picks in dataset indices, with what the oracle says of them."""
        positions = picks.positions.cpu()
        indices = open_pool[positions]
        pseudo_labels = None
        if isinstance(evidence, FisherScores):
            pseudo_labels = evidence.pseudo_labels.cpu()[positions]
        return Selection(
            indices=indices,
            labels=self.oracle(indices),
            ranks=None if picks.ranks is None else picks.ranks.cpu(),
            scores=None if picks.scores is None else picks.scores.float().cpu(),
            matches=None if picks.targets is None else self.problem.validation[rows[picks.targets.cpu()]],
            pseudo_labels=pseudo_labels,
        )

    def _about(self, selection: Selection, evidence: Evidence, open_pool: Tensor) -> dict[str, float]:
        """What there is to say of a selection once the truth is known."""
        rare = torch.tensor(self.problem.minority, dtype=torch.long)
        about = {}
        if len(rare):
            about["select/minority_fraction"] = _fraction(torch.isin(selection.labels, rare))
        if isinstance(evidence, Features):
            about["select/targets"] = float(len(evidence.targets))
        if isinstance(evidence, FisherScores):
            s, y = evidence.pseudo_labels.cpu(), self.oracle(open_pool)
            about["pseudo/accuracy"] = _fraction(s == y)
            about |= _about_prior(evidence.prior, self.oracle(self.problem.pool))
            called, is_rare = torch.isin(s, rare), torch.isin(y, rare)
            if called.any():
                about["pseudo/minority_precision"] = _fraction(is_rare[called])
            if is_rare.any():
                about["pseudo/minority_recall"] = _fraction(called[is_rare])
        return about

    def _train(self, b: int, pool: Pool, meter: Meter) -> Generator[Progress, None, tuple[list[float], int]]:
        """Train on all labels so far; leaves the kept weights in the model. The loss is the members' mean."""
        if self.training.start == "theta_0":
            self.model.load_state_dict(self.theta_0)
        by_member, epoch = [], 0
        for e, member in enumerate(members_of(self.model)):
            losses, epoch = yield from self._train_member(b, e, member, pool, meter)
            by_member.append(losses)
        return [sum(epoch_losses) / len(by_member) for epoch_losses in zip(*by_member, strict=True)], epoch

    def _train_member(
        self, b: int, e: int, member: nn.Module, pool: Pool, meter: Meter
    ) -> Generator[Progress, None, tuple[list[float], int]]:
        config, losses, kept = self.training, [], _BestEpoch()
        indices = pool.labeled
        epochs = fit(
            member,
            self.problem.train,
            indices,
            self.oracle(indices),
            config=config,
            generator=stream(self.seed, "train", b, *member_name(e)),
            meter=meter,
        )
        while True:
            with meter.phase("train"):
                loss = next(epochs, None)
            if loss is None:
                break
            losses.append(loss)
            if self.protocol == "paper":
                kept = kept.or_better(len(losses), self._test_accuracy(member, meter), member)
            yield Progress(f"training b = {b}", len(losses), config.epochs, "epochs")
        if kept.weights is not None:
            member.load_state_dict(kept.weights)
            return losses, kept.epoch
        return losses, len(losses)

    def _evaluate(self, meter: Meter) -> tuple[Tensor, dict[str, float]]:
        """Of an ensemble, the members' counts together: its accuracy is then their mean, as the authors report."""
        members = members_of(self.model)
        with meter.phase("evaluate"):
            confusion = torch.stack([self._on_test(member, meter) for member in members]).sum(dim=0)
            on_validation = torch.stack([self._on_validation(member, meter) for member in members]).sum(dim=0)
        return confusion, {
            **accuracies(confusion, self.problem.minority, prefix=self.problem.measured),
            **accuracies(on_validation, self.problem.minority, prefix="val"),
        }

    def _on_test(self, member: nn.Module, meter: Meter) -> Tensor:
        batch = self.method.gathering.batch_size
        return confusion_matrix(member, self.problem.test_images, self.problem.test, batch_size=batch, meter=meter)

    def _on_validation(self, member: nn.Module, meter: Meter) -> Tensor:
        batch = self.method.gathering.batch_size
        return confusion_matrix(member, self.problem.train, self.problem.validation, batch_size=batch, meter=meter)

    def _test_accuracy(self, member: nn.Module, meter: Meter) -> float:
        with meter.phase("evaluate"):
            confusion = self._on_test(member, meter)
        return float(confusion.trace() / confusion.sum())


def member_name(e: int) -> tuple[str | int, ...]:
    """What streams of an ensemble's member add to their names; the first adds nothing: it is the model without E."""
    return ("member", e) if e else ()


@dataclass(frozen=True)
class _BestEpoch:
    """The authors' rule: the earliest epoch with the best test accuracy."""

    epoch: int = 0
    accuracy: float = -1.0
    weights: Weights | None = None

    def or_better(self, epoch: int, accuracy: float, model: nn.Module) -> "_BestEpoch":
        if accuracy <= self.accuracy:
            return self
        return _BestEpoch(epoch, accuracy, _snapshot(model))


def _at_random(evidence: Evidence, p: int, generator: torch.Generator) -> Picks:
    return random.select(Nothing(evidence.n), p, generator)


def _about_prior(estimated: Tensor | None, y: Tensor) -> dict[str, float]:
    """Estimated class frequencies of the whole pool beside the true ones, and half of what they differ by together."""
    if estimated is None:
        return {}
    n_classes = max(len(estimated), int(y.max()) + 1)
    guessed = torch.zeros(n_classes, dtype=torch.float64)
    guessed[: len(estimated)] = estimated.cpu()
    true = y.bincount(minlength=n_classes).double() / len(y)
    told = range(n_classes if n_classes <= FEW_CLASSES else 0)
    return {
        "prior/error": float((guessed - true).abs().sum() / 2),
        **{f"prior/estimated_{d}": float(guessed[d]) for d in told},
        **{f"prior/true_{d}": float(true[d]) for d in told},
    }


def _fraction(flags: Tensor) -> float:
    return float(flags.double().mean())


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory_mb(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return None
