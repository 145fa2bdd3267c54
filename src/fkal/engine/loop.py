"""Algorithm 1: each round selects images, learns from their labels, and leaves a `Round`.

`rounds` is all of it as a generator, with `Progress` in between: whoever wants to track, store or draw iterates; the
loop knows nothing of them. Its two halves are `select`, which ends in a `Request`, and `learn`, which takes the labels.
Between them people may take days, and the process that asked may be gone.
"""

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.acquisition import random
from fkal.core.evidence import Evidence, Features, FisherScores, Nothing, Posteriors
from fkal.core.picks import Picks
from fkal.core.pool import Pool
from fkal.core.randomness import stream
from fkal.data.images import ImageSet
from fkal.engine.batch_parts import WHOLE, BatchParts
from fkal.engine.cross_fitting import CrossFit, CrossFitted, cross_fitted_head, folds
from fkal.engine.describing import DescriptorCache
from fkal.engine.embedded_images import EmbeddedImages
from fkal.engine.evaluation import accuracies, confusion_matrix, confusion_of
from fkal.engine.fitting_together import fit_together, learn_together
from fkal.engine.gathering import EvidenceConfig, RoundContext, gather
from fkal.engine.head_training import LabeledRows, fit_head, fit_head_under
from fkal.engine.losses import LOSSES
from fkal.engine.measured import VALIDATION
from fkal.engine.memory import UNBOUNDED, MemoryBound
from fkal.engine.metering import Meter
from fkal.engine.processes import Processes
from fkal.engine.progress import Progress
from fkal.engine.ranking_again import ranked_again
from fkal.engine.rounds import Request, Round, Selection
from fkal.engine.settings import FEW_CLASSES, TrainConfig
from fkal.engine.training import fit
from fkal.engine.unfinished import FitState, Unfinished, UnfinishedRounds
from fkal.models.ensemble import members_of
from fkal.models.linear_head import LinearHead

Weights = Mapping[str, Tensor]
Select = Callable[[Evidence, int, torch.Generator], Picks]
Oracle = Callable[[Tensor], Tensor]
KeptEpoch = Literal["last", "best_on_test"]


@dataclass(frozen=True)
class Problem:
    """The data of one experiment: which images are pool, validation and test.

    `pool` and `validation` index `train`, `test` indexes `test_images`; `minority` names the
    under-represented classes. `measured` is what metrics call the images of `test`: where they are
    a part held out of validation, and no test set, `holdout`. Without any of these, `measured` is `val`: accuracies are
    those on the validation images, and `test` is not looked at. `groups` has the group of each image of `train`, where
    there are groups.
    """

    train: ImageSet
    test_images: ImageSet
    pool: Int[Tensor, " n"]
    validation: Int[Tensor, " m"]
    test: Int[Tensor, " t"]
    minority: tuple[int, ...]
    measured: str = "test"
    groups: Int[Tensor, " i"] | None = None


@dataclass(frozen=True)
class Method:
    """One way to pick: the evidence it needs, the settings it is gathered by, and how it selects from it.

    With `random_first` the first round, before any label, picks at random. With `on_validation` training uses the
    validation images, too, from the first labels on.
    """

    needs: type[Evidence]
    select: Select
    config: EvidenceConfig
    budget: int
    rounds: int
    random_first: bool = False
    on_validation: bool = False


@dataclass(frozen=True)
class LoopState:
    """Where the loop is after round `b`: what is labeled, the labels by dataset index (-1: none), and the weights.

    `cross_fitted` is that of the round, where it is at hand.
    """

    b: int
    pool: Pool
    labels: Int[Tensor, " n"]
    weights: Weights
    cross_fitted: Float[Tensor, "m d"] | None = None

    @property
    def y(self) -> Int[Tensor, " l"]:
        """The labels of `pool.labeled`."""
        return self.labels[self.pool.labeled]

    def labeled(self, selection: Selection) -> "LoopState":
        """The same with a selection's labels."""
        labels = self.labels.clone()
        labels[selection.indices] = selection.labels.to(labels)
        return replace(self, pool=self.pool.label(selection.indices), labels=labels)

    def after(self, finished: Round) -> "LoopState":
        """Where the next round begins."""
        return replace(
            self.labeled(finished.selection), b=finished.b, weights=finished.weights, cross_fitted=finished.cross_fitted
        )


@dataclass(frozen=True)
class _Work:
    """What the training of a round is about; `penalty` is that of a head, where cross-fitting has chosen it."""

    request: Request
    state: LoopState
    meter: Meter
    penalty: float | None
    begun: Unfinished | None


@dataclass(frozen=True)
class ActiveLearning:
    """Algorithm 1 for one problem, method and seed.

    Of an `Ensemble` each member is trained by itself, from its own weights and in an order of its
    own; what is measured is the mean over members, and what needs one model asks the first.

    `oracle` knows the label of every pool image; without one, labels come from outside, and what compares with the
    true labels of the whole pool is not measured.

    `epoch` `last` keeps each round's last epoch. `best_on_test` is the authors' rule: the epoch
    with the best *test* accuracy is kept, reported and gone on from; it exists to compare with
    the published curves and for nothing else.

    `cache` keeps the descriptors of `theta_0`, which the first round reads.

    Where `training.layers` is `frozen`, the images of `problem` are embeddings and the model is a head on them; no
    image passes a network here. `ahead` has counted what making the embeddings took, which the first round reports.

    Rows of the pool beyond the `bound` of memory are streamed, by methods that can.
    `unfinished` keeps the state of a round within its training; a round that it knows goes on from there.
    With `compiles` training images pass a program of the model.

    Training batches are in `parts`. Where each process computes one of them, the processes also share the other
    passes; the first one selects and knows what is `unfinished`, and all of them yield the same rounds.
    """

    problem: Problem
    method: Method
    model: nn.Module
    theta_0: Weights
    oracle: Oracle | None
    training: TrainConfig
    epoch: KeptEpoch
    seed: int
    device: torch.device
    cache: DescriptorCache | None = None
    ahead: Meter | None = None
    bound: MemoryBound = UNBOUNDED
    unfinished: UnfinishedRounds | None = None
    compiles: bool = False
    parts: BatchParts = WHOLE

    @property
    def _processes(self) -> Processes:
        return self.parts.processes

    def first_evidence(self) -> Generator[Progress]:
        """What the first round gathers, for the sake of what `cache` keeps of it."""
        self.model.load_state_dict(self.theta_0)
        if not self.method.random_first:
            yield from gather(self._context(self.state(), self._meter(1), None), self.method.needs)

    def rounds(self, finished: Sequence[Round] = ()) -> Generator[Progress | Round]:
        """The rounds after the `finished` ones, exactly as if those had just been run. Needs an oracle."""
        assert self.oracle is not None, "without an oracle call select and learn"
        state = self.state(finished)
        while state.b < self.method.rounds:
            known = None if self.unfinished is None else self.unfinished.read(state.b + 1)
            begun = self._processes.from_first(known)
            request = (yield from self.select(state)) if begun is None else begun.request
            this = yield from self.learn(state, request, self.oracle(request.indices), begun)
            state = state.after(this)
            yield this

    def state(self, finished: Sequence[Round] = ()) -> LoopState:
        """Where the loop is after these rounds, the first ones in their order."""
        pool = Pool.unlabeled(self.problem.pool)
        state = LoopState(0, pool, torch.full_like(self.problem.train.labels, -1), self.theta_0)
        for past in finished:
            state = state.after(past)
        return state

    def select(self, state: LoopState) -> Generator[Progress, None, Request]:
        """The first half of the next round: the images to be labeled."""
        method, b = self.method, state.b + 1
        meter = self._meter(b)
        _reset_peak_memory(self.device)
        cross_fitted = yield from self._known_cross_fitted(state)
        self.model.load_state_dict(state.weights)
        needs, select = (Nothing, _at_random) if method.random_first and b == 1 else (method.needs, method.select)
        with meter.phase("descriptors"):
            context = self._context(state, meter, cross_fitted)
            evidence, rows = yield from gather(context, needs)
        if not self._processes.leads:
            return self._processes.from_first(_not_selected_here(b))
        with meter.phase("select"):
            picks, evidence, again = yield from ranked_again(
                context, evidence, lambda found: select(found, method.budget, stream(self.seed, "select", b))
            )
        positions = picks.positions.cpu()
        guessed = evidence.pseudo_labels if isinstance(evidence, FisherScores | Posteriors) else None
        request = Request(
            b=b,
            indices=state.pool.open[positions],
            ranks=None if picks.ranks is None else picks.ranks.cpu(),
            scores=None if picks.scores is None else picks.scores.float().cpu(),
            matches=None if picks.targets is None else self.problem.validation[rows[picks.targets.cpu()]],
            pseudo_labels=None if guessed is None else guessed.cpu()[positions],
            metrics={
                **self._about_evidence(evidence, state.pool.open),
                **({"select/ranked_again": float(again)} if again else {}),
            },
            forward_images=dict(meter.forward_images),
            backward_images=dict(meter.backward_images),
            seconds=dict(meter.seconds),
            peak_memory_mb=_peak_memory_mb(self.device),
        )
        return self._processes.from_first(request)

    def learn(
        self, state: LoopState, request: Request, labels: Int[Tensor, " p"], begun: Unfinished | None = None
    ) -> Generator[Progress, None, Round]:
        """The second half: training on the requested labels, in the order of the request, and all before them.

        `state` is the one that the request was selected in. With `begun` training goes on from there.

        Raises ValueError for a request of another round, and for labels that are not one class per image.
        """
        _refuse_unless_it_fits(state, request, labels, len(self.problem.train.classes))
        meter = self._counted(request)
        selection = request.labeled(labels)
        self.model.load_state_dict(state.weights)
        state = state.labeled(selection)
        crossed = (yield from self._cross_fit(request.b, state, meter)) if self.method.on_validation else CrossFitted()
        if begun is not None:  # whose counts have the cross-fitting in them
            meter = self._counted(begun)
        work = _Work(request, state, meter, crossed.penalty, begun)
        losses, epoch = yield from self._train(work)
        confusion, scores = self._evaluate(meter, crossed.logits)
        return Round(
            b=request.b,
            labels_used=len(state.y),
            selection=selection,
            metrics={**scores, **self._about_labels(selection), **request.metrics},
            train_loss=tuple(losses),
            epoch=epoch,
            confusion=confusion,
            labeled_counts=tuple(state.y.bincount(minlength=len(confusion)).tolist()),
            forward_images=dict(meter.forward_images),
            backward_images=dict(meter.backward_images),
            seconds=dict(meter.seconds),
            peak_memory_mb=_larger(request.peak_memory_mb, _peak_memory_mb(self.device)),
            weights=_snapshot(self.model),
            cross_fitted=crossed.logits,
        )

    def _known_cross_fitted(self, state: LoopState) -> Generator[Progress, None, Tensor | None]:
        """That of the last round, made again without being counted where this process did not make it."""
        if not (self.method.on_validation and state.b) or state.cross_fitted is not None:
            return state.cross_fitted
        crossed = yield from self._cross_fit(state.b, state, Meter(self.device))
        return crossed.logits

    def _cross_fit(self, b: int, state: LoopState, meter: Meter) -> Generator[Progress, None, CrossFitted]:
        """Of the validation images, by models of theta_0 that learned from the other folds; leaves the model.

        Of an ensemble, by its first member.
        """
        seed = stream(self.seed, "cross-fit", b).initial_seed()
        validation, train = self.problem.validation, self.problem.train
        groups = None if self.problem.groups is None else self.problem.groups[validation]
        fold = folds(train.labels[validation], groups, stream(seed, "folds"))
        if self._is_frozen:
            with meter.phase("train"):
                rows = self._rows(state.pool.labeled, state.y), self._rows(validation, train.labels[validation])
                crossed = cross_fitted_head(*rows, fold, LOSSES[self.training.loss], len(train.classes))
            yield Progress(f"cross-fitting b = {b}", 1, 1, "heads")
            return crossed
        weights = _snapshot(self.model)
        self.model.load_state_dict(self.theta_0)
        each_fold = CrossFit(
            model=deepcopy(members_of(self.model)[0]),
            images=train,
            validation=validation,
            fold=fold,
            config=self.training,
            batch_size=self.method.config.acquisition.batch_size,
            meter=meter,
            parts=self.parts,
        )
        self.model.load_state_dict(weights)
        with meter.phase("train"):
            return (yield from each_fold.run(state.pool.labeled, state.y, seed=seed, what=f"cross-fitting b = {b}"))

    @property
    def _is_frozen(self) -> bool:
        return self.training.layers == "frozen"

    def _meter(self, b: int) -> Meter:
        """A new one; that of the first round has what was counted ahead of it."""
        counts = not self._is_frozen
        if b > 1 or self.ahead is None:
            return Meter(self.device, counts=counts)
        ahead = self.ahead
        return Meter(
            self.device,
            Counter(ahead.forward_images),
            Counter(ahead.backward_images),
            dict(ahead.seconds),
            counts=counts,
        )

    def _counted(self, before: Request | Unfinished) -> Meter:
        """One that goes on counting."""
        return Meter(
            self.device,
            Counter(before.forward_images),
            Counter(before.backward_images),
            dict(before.seconds),
            counts=not self._is_frozen,
        )

    def _context(self, state: LoopState, meter: Meter, cross_fitted: Tensor | None) -> RoundContext:
        return RoundContext(
            members=members_of(self.model),
            images=self.problem.train,
            open_pool=state.pool.open,
            labeled=state.pool.labeled,
            y=state.y,
            validation=self.problem.validation,
            config=self.method.config,
            generator=stream(self.seed, "gather", state.b + 1),
            meter=meter,
            cache=None if state.b or self._is_frozen else self.cache,
            untrained=self._is_frozen and not len(state.y),
            cross_fitted=cross_fitted,
            bound=self.bound,
            processes=self._processes,
        )

    def _about_labels(self, selection: Selection) -> dict[str, float]:
        """What the labels of a selection say of it."""
        rare = torch.tensor(self.problem.minority, dtype=torch.long)
        if not (len(rare) and len(selection.labels)):
            return {}
        return {"select/minority_fraction": _fraction(torch.isin(selection.labels, rare))}

    def _about_evidence(self, evidence: Evidence, open_pool: Tensor) -> dict[str, float]:
        """What there is to say of the evidence; where an oracle knows the truth, how right the pseudo-labels are."""
        about = {}
        if isinstance(evidence, Features):
            about["select/targets"] = float(len(evidence.targets))
        if isinstance(evidence, FisherScores | Posteriors) and self.oracle is not None:
            rare = torch.tensor(self.problem.minority, dtype=torch.long)
            s, y = evidence.pseudo_labels.cpu(), self.oracle(open_pool)
            about["pseudo/accuracy"] = _fraction(s == y)
            about |= _about_prior(evidence.prior, self.oracle(self.problem.pool))
            called, is_rare = torch.isin(s, rare), torch.isin(y, rare)
            if called.any():
                about["pseudo/minority_precision"] = _fraction(is_rare[called])
            if is_rare.any():
                about["pseudo/minority_recall"] = _fraction(called[is_rare])
        return about

    def _train(self, work: _Work) -> Generator[Progress, None, tuple[list[float], int]]:
        """Train on all labels so far; leaves the kept weights in the model. The loss is the members' mean."""
        if self.training.start == "theta_0":
            self.model.load_state_dict(self.theta_0)
        is_whole = self.epoch == "last" and self.parts.count == 1
        if is_whole and learn_together(members_of(self.model), self.training, self.device):
            return (yield from self._train_together(work))
        by_member: list[list[float]] = []
        if work.begun is not None:
            self.model.load_state_dict(work.begun.weights)
            by_member = [list(losses) for losses in work.begun.losses[:-1]]
        epoch = len(by_member[-1]) if by_member else 0
        for e, member in enumerate(members_of(self.model)):
            if e >= len(by_member):
                losses, epoch = yield from self._train_member(e, member, work, by_member)
                by_member.append(losses)
        return [sum(epoch_losses) / len(by_member) for epoch_losses in zip(*by_member, strict=True)], epoch

    def _train_together(self, work: _Work) -> Generator[Progress, None, tuple[list[float], int]]:
        """Small members on a GPU, whose rounds take too little time for a state within one to be kept."""
        indices, y = self._learned_from(work.state)
        members, b = members_of(self.model), work.request.b
        draws = [stream(self.seed, "train", b, *member_name(e)) for e in range(len(members))]
        epochs = fit_together(
            members, self.problem.train, indices, y, config=self.training, generators=draws, meter=work.meter
        )
        means: list[float] = []
        while True:
            with work.meter.phase("train"):
                losses = next(epochs, None)
            if losses is None:
                self.parts.agree(self.model)
                return means, len(means)
            means.append(sum(losses) / len(losses))
            yield Progress(f"training b = {b}", len(means), self.training.epochs, "epochs")

    def _train_member(
        self, e: int, member: nn.Module, work: _Work, before: Sequence[Sequence[float]]
    ) -> Generator[Progress, None, tuple[list[float], int]]:
        if self._is_frozen:
            return (yield from self._fit_head(member, work))
        config, kept, b = self.training, _BestEpoch(), work.request.b
        begun = work.begun if work.begun is not None and e == len(work.begun.losses) - 1 else None
        losses = [] if begun is None else list(begun.losses[-1])
        made: list[Callable[[], FitState]] = []
        indices, y = self._learned_from(work.state)
        epochs = fit(
            member,
            self.problem.train,
            indices,
            y,
            config=config,
            generator=stream(self.seed, "train", b, *member_name(e)),
            meter=work.meter,
            first_epoch=len(losses),
            begun=None if begun is None else begun.fit,
            after_epoch=made.append,
            compiles=self.compiles,
            parts=self.parts,
        )
        while True:
            with work.meter.phase("train"):
                loss = next(epochs, None)
            if loss is None:
                break
            losses.append(loss)
            if self.epoch == "best_on_test":
                kept = kept.or_better(len(losses), self._test_accuracy(member, work.meter), member)
            elif len(losses) < config.epochs:
                self._keep_unfinished(work, [*before, losses], made[-1])
            made.clear()
            yield Progress(f"training b = {b}", len(losses), config.epochs, "epochs")
        if kept.weights is not None:
            member.load_state_dict(kept.weights)
            return losses, kept.epoch
        return losses, len(losses)

    def _keep_unfinished(self, work: _Work, losses: Sequence[Sequence[float]], fit: Callable[[], FitState]) -> None:
        """Where `best_on_test` chooses among epochs nothing is kept: that rule is for comparisons in small."""
        if self.unfinished is None or not self.unfinished.wants:
            return
        meter = work.meter
        unfinished = Unfinished(
            request=work.request,
            losses=tuple(map(tuple, losses)),
            weights=_snapshot(self.model),
            fit=fit(),
            forward_images=dict(meter.forward_images),
            backward_images=dict(meter.backward_images),
            seconds=dict(meter.seconds),
        )
        self.unfinished.offer(unfinished)

    def _rows(self, indices: Tensor, y: Tensor) -> LabeledRows:
        """Embeddings of a frozen run with their labels."""
        assert isinstance(self.problem.train, EmbeddedImages)
        return LabeledRows(self.problem.train.rows(indices, self.device), y.to(self.device))

    def _fit_head(self, head: nn.Module, work: _Work) -> Generator[Progress, None, tuple[list[float], int]]:
        """One epoch, as others count: the head converges in it.

        The validation images choose the penalty, unless cross-fitting has chosen it.
        """
        state, meter, penalty = work.state, work.meter, work.penalty
        assert isinstance(head, LinearHead)
        known, labels = self.problem.validation, self.problem.train.labels
        loss = LOSSES[self.training.loss]
        with meter.phase("train"):
            if penalty is None:
                fit = fit_head(head, self._rows(state.pool.labeled, state.y), self._rows(known, labels[known]), loss)
            else:
                fit = fit_head_under(head, self._rows(*self._learned_from(state)), penalty, loss)
        yield Progress(f"training b = {work.request.b}", 1, 1, "epochs")
        return [fit.loss], 1

    def _learned_from(self, state: LoopState) -> tuple[Tensor, Tensor]:
        """Indices and labels of the training images: those labeled, and the validation images where they are used."""
        if not self.method.on_validation:
            return state.pool.labeled, state.y
        known = self.problem.validation
        return torch.cat([state.pool.labeled, known]), torch.cat([state.y, self.problem.train.labels[known]])

    def _evaluate(self, meter: Meter, cross_fitted: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """Of an ensemble, the members' counts together: its accuracy is then their mean, as the authors report.

        Validation images that the model was trained on are measured by their cross-fitted predictions.
        """
        members = members_of(self.model)
        with meter.phase("evaluate"):
            if self.problem.measured == VALIDATION:
                on_validation = self._on_validation(members, meter, cross_fitted)
                return on_validation, accuracies(on_validation, self.problem.minority, prefix=VALIDATION)
            confusion = torch.stack([self._on_test(member, meter) for member in members]).sum(dim=0)
            on_validation = self._on_validation(members, meter, cross_fitted)
        return confusion, {
            **accuracies(confusion, self.problem.minority, prefix=self.problem.measured),
            **accuracies(on_validation, self.problem.minority, prefix=VALIDATION),
        }

    def _on_test(self, member: nn.Module, meter: Meter) -> Tensor:
        return self._confusion(member, self.problem.test_images, self.problem.test, meter)

    def _confusion(self, member: nn.Module, images: ImageSet, indices: Tensor, meter: Meter) -> Tensor:
        batch = self.method.config.acquisition.batch_size
        return confusion_matrix(member, images, indices, batch_size=batch, meter=meter, processes=self._processes)

    def _on_validation(self, members: Sequence[nn.Module], meter: Meter, cross_fitted: Tensor | None) -> Tensor:
        images, indices = self.problem.train, self.problem.validation
        if cross_fitted is not None:
            return confusion_of(images.labels[indices], cross_fitted.argmax(dim=1).cpu(), len(images.classes))
        return torch.stack([self._confusion(member, images, indices, meter) for member in members]).sum(dim=0)

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


def _not_selected_here(b: int) -> Request:
    """What stands for the request until the first process sends it."""
    none = torch.empty(0, dtype=torch.long)
    return Request(b, none, None, None, None, None, {}, {}, {}, {}, None)


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


def _refuse_unless_it_fits(state: LoopState, request: Request, labels: Tensor, n_classes: int) -> None:
    if request.b != state.b + 1:
        raise ValueError(f"a request of round {request.b} after round {state.b}; give that of round {state.b + 1}")
    if len(labels) != len(request.indices):
        raise ValueError(f"{len(labels)} labels for {len(request.indices)} requested images; give one per image")
    strangers = labels[(labels < 0) | (labels >= n_classes)].tolist()
    if strangers:
        raise ValueError(f"labels {strangers[:10]}: there are {n_classes} classes; give 0 to {n_classes - 1}")


def _larger(before: float | None, now: float | None) -> float | None:
    return now if before is None or now is None else max(before, now)


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
