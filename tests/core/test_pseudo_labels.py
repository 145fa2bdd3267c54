import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import fkal.core.information
from fkal.core.descriptors import Descriptors
from fkal.core.information import RIDGE, information
from fkal.core.kernels import R_ZG
from fkal.core.labels import PSEUDO_LABELS
from fkal.core.pseudo_labels import PoolBatch, Reference
from fkal.core.views import View

D = 3
WIDTHS = {"conv1": 4, "conv2": 7, "fc1": 5}
"""Those of the fixture `raw`."""


def some_views(k: int, n: int, *, seed: int, widths: dict[str, int] | None = None, d: int = D) -> list[View]:
    """Independent views of n images."""
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    taps = (widths or WIDTHS).items()
    return [
        View(
            {tap: 1 + normal(n, width) for tap, width in taps},
            {tap: normal(d, n, width) for tap, width in taps},
            normal(n, d).softmax(dim=1),
        )
        for _ in range(k)
    ]


def changed(views: Sequence[View], *, z=lambda block: block, jacobian=lambda block: block) -> list[View]:
    """The views with every block of z and of the Jacobian changed."""
    return [
        View(
            {tap: z(block.clone()) for tap, block in view.z.items()},
            {tap: jacobian(block.clone()) for tap, block in view.jacobian.items()},
            view.p,
        )
        for view in views
    ]


def views_for(name: str, n: int, *, seed: int) -> list[View]:
    """As many as the estimator of this name asks for."""
    return some_views({"none": 0, "clean": 1, "perturbed": 9}[PSEUDO_LABELS[name].views], n, seed=seed)


def evidence(raw, n: int, m: int, seed: int, *, name: str = "joint", combine: str = "product"):
    draws = torch.Generator().manual_seed(seed)
    pool, validation = raw(n, seed=seed), raw(m, seed=seed + 1)
    y, y_v = torch.randint(D, (n,), generator=draws), torch.randint(D, (m,), generator=draws)
    logits, views = torch.randn(n, D, generator=draws), views_for(name, n, seed=seed)
    views = [View({t: b.float() for t, b in v.z.items()}, {t: b.float() for t, b in v.jacobian.items()}, v.p)
             for v in views]  # fmt: skip
    batch = PoolBatch(logits, Descriptors.of(pool.z), y, views)
    return pool, validation, batch, Reference(validation.descriptors, y_v, R_ZG[combine])


def labels(name: str, views: Sequence[View], n: int) -> list[int]:
    """What an estimator that looks at views alone says."""
    nothing = Descriptors.of({"fc": torch.zeros(n, 2)})
    batch = PoolBatch(torch.zeros(n, D), nothing, torch.zeros(n, dtype=torch.long), views)
    return PSEUDO_LABELS[name].estimate(batch, Reference(nothing, batch.y)).tolist()


class Slow:
    """Section 3.3 for one image and class at a time, in numpy's float64."""

    def __init__(self, views: Sequence[View], image: int, d: int) -> None:
        self.z = {tap: np.array([view.z[tap][image].double().numpy() for view in views]) for tap in views[0].z}
        self.g = {tap: np.array([self.score(view, tap, image, d) for view in views]) for tap in views[0].z}

    @staticmethod
    def score(view: View, tap: str, image: int, d: int) -> np.ndarray:
        """The Fisher score: what the loss under class d falls by, times p - 1_d back through the Jacobian."""
        p, jacobian = view.p[image].numpy(), view.jacobian[tap][:, image].double().numpy()
        return -sum((p[c] - (c == d)) * jacobian[c] for c in range(len(p)))

    def trace(self) -> float:
        return sum(float(z @ g) for tap in self.z for z, g in zip(self.z[tap], self.g[tap], strict=True))

    def information(self) -> float:
        """0.5 log(|C_zz| |C_gg| / |C_zg,zg|), a ridge relative to the mean variance of z and of g, over taps."""
        return sum(self.of_tap(self.z[tap], self.g[tap]) for tap in self.z)

    def diagonal_information(self) -> float:
        """The same, a diagonal kept of C_zz, C_gg and C_zg: -0.5 sum of log(1 - correlation^2), unit by unit."""
        total = 0.0
        for tap in self.z:
            z_ridge, g_ridge = (RIDGE * block.var(axis=0).mean() for block in (self.z[tap], self.g[tap]))
            for z, g in zip(self.z[tap].T, self.g[tap].T, strict=True):
                c = np.cov(z, g, bias=True)
                total -= 0.5 * np.log(1 - c[0, 1] ** 2 / ((c[0, 0] + z_ridge) * (c[1, 1] + g_ridge)))
        return total

    @staticmethod
    def of_tap(z: np.ndarray, g: np.ndarray) -> float:
        width = z.shape[1]
        c = np.cov(z.T, g.T, bias=True)  # (2l 2l): z's rows, then g's
        scale = np.sqrt(np.repeat([np.diag(c)[:width].mean(), np.diag(c)[width:].mean()], width))
        c = c / np.outer(scale, scale) + RIDGE * np.eye(2 * width)
        log_zz, log_gg, log_both = (np.linalg.slogdet(block)[1] for block in (c[:width, :width], c[width:, width:], c))
        return 0.5 * (log_zz + log_gg - log_both)


def slow_information(views: Sequence[View], *, diagonal: bool) -> Tensor:
    d, n = len(next(iter(views[0].jacobian.values()))), len(views[0].p)
    kind = "diagonal_information" if diagonal else "information"
    return torch.tensor([[getattr(Slow(views, i, c), kind)() for i in range(n)] for c in range(d)])


# joint, predicted, true


@pytest.mark.parametrize("seed", range(3))
def test_joint_takes_the_label_of_the_validation_image_with_the_largest_r_z(raw, paper, seed):
    pool, validation, batch, reference = evidence(raw, 8, 13, seed)
    similarity = paper.r(pool.z, validation.z).tolist()
    expected = [int(reference.y[row.index(max(row))]) for row in similarity]
    assert PSEUDO_LABELS["joint"].estimate(batch, reference).tolist() == expected


def test_joint_takes_the_first_of_equally_similar_validation_images(raw):
    _, _, batch, _ = evidence(raw, 4, 3, 0)
    twice = {tap: torch.cat([block, block]) for tap, block in batch.z.z.items()}
    reference = Reference(Descriptors(twice), torch.tensor([0, 1, 2, 0, 2, 2, 2, 2]))
    assert PSEUDO_LABELS["joint"].estimate(batch, reference).tolist() == [0, 1, 2, 0]


def test_predicted_is_the_arg_max_of_the_models_output(raw):
    _, _, batch, reference = evidence(raw, 8, 3, 1)
    expected = [row.index(max(row)) for row in batch.logits.tolist()]
    assert PSEUDO_LABELS["predicted"].estimate(batch, reference).tolist() == expected


def test_true_is_the_oracles_label(raw):
    _, _, batch, reference = evidence(raw, 8, 3, 2)
    assert torch.equal(PSEUDO_LABELS["true"].estimate(batch, reference), batch.y)


@pytest.mark.parametrize("name", list(PSEUDO_LABELS))
def test_only_an_estimator_marked_so_depends_on_the_true_labels(raw, name):
    _, _, batch, reference = evidence(raw, 8, 9, 3, name=name)
    other = PoolBatch(batch.logits, batch.z, (batch.y + 1) % 3, batch.views)
    entry = PSEUDO_LABELS[name]
    same = torch.equal(entry.estimate(batch, reference), entry.estimate(other, reference))
    assert same is not entry.sees_oracle


@pytest.mark.parametrize("name", list(PSEUDO_LABELS))
def test_every_estimator_gives_a_label_an_image_from_views_that_are_made_only_as_it_asks(raw, name):
    _, _, batch, reference = evidence(raw, 8, 9, 4, name=name)
    made = PoolBatch(batch.logits, batch.z, batch.y, iter(batch.views))
    entry = PSEUDO_LABELS[name]
    said = entry.estimate(made, reference)
    assert said.dtype == torch.long
    assert torch.equal(said, entry.estimate(batch, reference))
    assert set(said.tolist()) <= set(range(D))
    assert entry.summary


# joint with gradients


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("combine", list(R_ZG))
def test_joint_zg_takes_the_label_of_the_validation_image_with_the_largest_r_zg(raw, paper, combine, seed):
    """Each validation image is held against the pool image under its own label."""
    _, validation, batch, reference = evidence(raw, 5, 9, seed, name="joint_zg", combine=combine)
    (view,) = batch.views
    expected = []
    for i in range(5):
        similarity = []
        for v in range(9):
            y_v = int(reference.y[v])
            r_z, r_g = [], []
            for tap in view.z:
                g = torch.tensor(-Slow.score(view, tap, i, y_v))  # a loss gradient, as g_v is
                r_z.append(paper.correlation(validation.z[tap][v], view.z[tap][i]))
                r_g.append(paper.correlation(validation.g[tap][v], g))
            match combine:
                case "product":
                    similarity.append(sum(z * g for z, g in zip(r_z, r_g, strict=True)))
                case "product_of_sums":
                    similarity.append(sum(r_z) * sum(r_g))
                case "sum":
                    similarity.append(sum(r_z) + sum(r_g))
        expected.append(int(reference.y[similarity.index(max(similarity))]))
    assert PSEUDO_LABELS["joint_zg"].estimate(batch, reference).tolist() == expected


def test_joint_zg_never_says_a_class_that_no_validation_image_has(raw):
    _, _, batch, reference = evidence(raw, 8, 9, 5, name="joint_zg")
    only_two = Reference(reference.z, reference.y.clamp(max=1))
    assert set(PSEUDO_LABELS["joint_zg"].estimate(batch, only_two).tolist()) <= {0, 1}


def under_equal_odds(z: Tensor, jacobian: list[Tensor]) -> View:
    """A view whose Fisher scores are the Jacobian's rows: these sum to zero, and every class is as probable."""
    rows = torch.stack(jacobian)
    assert_close(rows.sum(dim=0), torch.zeros_like(rows[0]))
    return View({"fc": z}, {"fc": rows}, torch.full((len(z), len(rows)), 1 / len(rows), dtype=z.dtype))


RIGHT = torch.tensor([2, 0, 1, 1, 0, 2])
"""Labels of pools in which they are known by construction."""


def by_label(right: Tensor, other: Sequence[Tensor]) -> list[Tensor]:
    """For each class a row an image: `right` under its label, `other[0]` and `other[1]` under the next two."""
    rows = []
    for c in range(D):
        turn = (c - RIGHT) % D  # (n,): 0 under the right label
        rows.append(torch.where((turn == 0)[:, None], right, torch.where((turn == 1)[:, None], *other)))
    return rows


def test_gradients_tell_what_equal_features_cannot():
    """Under its own label an image has the gradient of its class's validation image, under another an unlike one."""
    axes = torch.eye(8, dtype=torch.float64)
    z = torch.rand(1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    toward = -axes[RIGHT]  # a Fisher score: minus a loss gradient
    view = under_equal_odds(z.expand(len(RIGHT), 8), by_label(toward, (-toward / 2, -toward / 2)))
    validation = Descriptors.of({"fc": z.expand(D, 8)}, {"fc": axes[:D]})
    nothing = torch.zeros(len(RIGHT), dtype=torch.long)
    batch = PoolBatch(torch.zeros(len(RIGHT), D), Descriptors.of(view.z), nothing, (view,))
    for kernel in R_ZG.values():
        reference = Reference(validation, torch.arange(D), kernel)
        assert torch.equal(PSEUDO_LABELS["joint_zg"].estimate(batch, reference), RIGHT)
        assert torch.equal(PSEUDO_LABELS["joint"].estimate(batch, reference), nothing)  # all are equally similar


# trace and mutual information


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 2, 7])
def test_trace_says_the_class_whose_fisher_scores_point_along_the_features(k, seed):
    views = some_views(k, 6, seed=seed)
    traces = [[Slow(views, i, d).trace() for d in range(D)] for i in range(6)]
    assert labels("trace", views, 6) == [row.index(max(row)) for row in traces]


def test_trace_looks_at_features_before_pooling_where_a_view_knows_them():
    views = some_views(3, 4, seed=15)
    draws = torch.Generator().manual_seed(16)
    products = [{tap: torch.randn(D, 4, generator=draws, dtype=torch.float64) for tap in WIDTHS} for _ in views]
    traces = torch.zeros(4, D, dtype=torch.float64)
    for product in products:
        for i in range(4):
            for d in range(D):
                traces[i, d] += sum(product[tap][d, i] for tap in WIDTHS)  # the mean taken off ranks no class
    with_products = [View(v.z, v.jacobian, v.p, product) for v, product in zip(views, products, strict=True)]
    assert labels("trace", with_products, 4) == traces.argmax(dim=1).tolist()
    assert labels("trace", with_products, 4) != labels("trace", views, 4)


def test_trace_knows_the_label_where_its_score_alone_points_along_the_features():
    draws = torch.Generator().manual_seed(1)
    views = []
    for _ in range(5):
        z = torch.rand(len(RIGHT), 4, generator=draws, dtype=torch.float64)
        views.append(under_equal_odds(z, by_label(2 * z, (-z, -z))))
    assert labels("trace", views, len(RIGHT)) == RIGHT.tolist()


@pytest.mark.parametrize(("k", "diagonal"), [(2, False), (3, False), (8, False), (40, False), (3, True), (8, True)])
def test_information_is_that_of_the_covariances_over_the_views(k, diagonal):
    """Few views for the dimensions (the ridge decides) and many."""
    views = some_views(k, 4, seed=k)
    found = information(views, diagonal=diagonal)
    assert found.shape == (D, 4)
    assert found.dtype == torch.float64
    assert_close(found, slow_information(views, diagonal=diagonal), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("k", [4, 5, 6, 7, 8, 30])
def test_information_is_the_same_however_many_views_are_held_at_once(k, diagonal, monkeypatch):
    """Taps of 4, 5 and 7 units: some by the views, some by the units, which take over after that many views."""
    views = some_views(k, 4, seed=k)
    monkeypatch.setattr(fkal.core.information, "ENTRIES", 1)
    found = information(views, diagonal=diagonal)
    assert_close(found, slow_information(views, diagonal=diagonal), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mutual_information", "mutual_information_diagonal"])
@pytest.mark.parametrize("seed", range(3))
def test_mutual_information_says_the_class_with_the_largest(name, seed):
    views = some_views(12, 6, seed=seed)
    expected = slow_information(views, diagonal=name.endswith("diagonal")).argmax(dim=0)
    assert labels(name, views, 6) == expected.tolist()


@pytest.mark.parametrize("name", ["mutual_information", "mutual_information_diagonal"])
def test_mutual_information_knows_the_label_where_its_score_alone_follows_the_features(name):
    draws = torch.Generator().manual_seed(2)
    views = []
    for _ in range(60):
        z, noise = torch.randn(2, len(RIGHT), 2, generator=draws, dtype=torch.float64)
        views.append(under_equal_odds(z, by_label(z, (noise, -z - noise))))
    assert labels(name, views, len(RIGHT)) == RIGHT.tolist()


def test_what_turns_features_into_scores_is_seen_in_full_and_not_by_the_diagonals():
    """A rotation by 90 degrees leaves no unit correlated with itself."""
    draws = torch.Generator().manual_seed(3)
    views = []
    for _ in range(400):
        z, noise = torch.randn(2, len(RIGHT), 2, generator=draws, dtype=torch.float64)
        turned = torch.stack([-z[:, 1], z[:, 0]], dim=1)
        views.append(under_equal_odds(z, by_label(turned, (noise, -turned - noise))))
    assert labels("mutual_information", views, len(RIGHT)) == RIGHT.tolist()
    assert information(views, diagonal=True).max() < 0.05
    assert information(views, diagonal=False).amax(dim=0).min() > 5


@pytest.mark.parametrize("diagonal", [False, True])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 12), order=st.randoms(use_true_random=False))
def test_information_is_never_below_zero_and_knows_no_order_of_views(diagonal, seed, k, order):
    views = some_views(k, 2, seed=seed, widths={"fc": 3})
    once = information(views, diagonal=diagonal)
    assert (once > -1e-5).all()
    order.shuffle(views)
    assert_close(information(views, diagonal=diagonal), once, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("diagonal", [False, True])
def test_taps_are_independent_and_their_information_adds_up(diagonal):
    views = some_views(10, 3, seed=5)
    by_tap = [
        information([View({tap: v.z[tap]}, {tap: v.jacobian[tap]}, v.p) for v in views], diagonal=diagonal)
        for tap in WIDTHS
    ]
    assert_close(information(views, diagonal=diagonal), sum(by_tap))


def test_of_a_single_unit_the_diagonal_is_the_whole():
    views = some_views(10, 3, seed=6, widths={"a": 1, "b": 1})
    assert_close(information(views, diagonal=True), information(views, diagonal=False), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("diagonal", [False, True])
def test_an_image_does_not_depend_on_those_beside_it(diagonal):
    views = some_views(6, 4, seed=7)
    whole = information(views, diagonal=diagonal)
    for i in range(4):
        alone = [
            View(
                {tap: block[i : i + 1] for tap, block in v.z.items()},
                {tap: block[:, i : i + 1] for tap, block in v.jacobian.items()},
                v.p[i : i + 1],
            )
            for v in views
        ]
        assert_close(information(alone, diagonal=diagonal), whole[:, i : i + 1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["trace", "mutual_information", "mutual_information_diagonal"])
def test_no_view_is_held_on_to_once_the_next_is_made(name):
    alive: list[weakref.ref] = []

    def making():
        for view in some_views(8, 3, seed=8):
            made = changed([view])[0]
            alive.append(weakref.ref(made))
            yield made
            del made
            assert sum(ref() is not None for ref in alive) <= 1

    labels(name, making(), 3)
    assert len(alive) == 8


def scaled_images(block: Tensor, factor: float) -> Tensor:
    """Image 1 of `(n l)` or `(d n l)` times the factor."""
    block[..., 1, :] *= factor
    return block


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("which", ["z", "jacobian"])
@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1e6])
def test_information_does_not_feel_the_scale_of_an_images_features_or_gradients(diagonal, which, factor):
    """Where the model is sure, gradients are tiny."""
    views = some_views(9, 3, seed=9)
    scaled = changed(views, **{which: lambda block: scaled_images(block, factor)})
    assert_close(information(scaled, diagonal=diagonal), information(views, diagonal=diagonal), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("which", ["z", "jacobian"])
@pytest.mark.parametrize("spread", [1e-2, 1e-3, 1e-4])
def test_nor_does_it_where_the_views_differ_by_little(diagonal, which, spread):
    """Gentle views move a feature by far less than its mean."""
    gentle = some_views(9, 3, seed=10)
    middle = some_views(1, 3, seed=11)[0]

    def near(view: View) -> View:
        z = {t: middle.z[t] + spread * block for t, block in view.z.items()}
        jacobian = {t: middle.jacobian[t] + spread * block for t, block in view.jacobian.items()}
        return View(z, jacobian, middle.p)

    gentle = [near(view) for view in gentle]
    scaled = changed(gentle, **{which: lambda block: scaled_images(block, 1e-6)})
    expected = slow_information(gentle, diagonal=diagonal)
    assert_close(information(gentle, diagonal=diagonal), expected, rtol=1e-2, atol=1e-3)
    assert_close(information(scaled, diagonal=diagonal), expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("which", ["z", "jacobian"])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e3, 1e6])
def test_units_that_never_change_tell_nothing_and_break_nothing(diagonal, which, size):
    """The first unit of each tap has one value in all views and so has, for image 2, the whole tap."""
    (still,) = some_views(1, 3, seed=12)
    constant = {tap: size * block for tap, block in getattr(still, which).items()}
    views = []
    for view in some_views(9, 3, seed=13):
        blocks = {"z": dict(view.z), "jacobian": dict(view.jacobian)}
        for tap, block in constant.items():
            blocks[which][tap] = blocks[which][tap].clone()
            blocks[which][tap][..., 0] = block[..., 0]
            blocks[which][tap][..., 2, :] = block[..., 2, :]
        views.append(View(blocks["z"], blocks["jacobian"], still.p))
    found = information(views, diagonal=diagonal)
    assert found.isfinite().all()
    assert_close(found[:, 2], torch.zeros(D, dtype=torch.float64), rtol=0, atol=1e-6)
    assert (found[:, :2] > 1e-3).all()


@pytest.mark.parametrize("name", ["trace", "mutual_information", "mutual_information_diagonal"])
def test_where_nothing_ever_changes_and_no_gradient_is_left_there_still_is_a_label(name):
    (view,) = some_views(1, 4, seed=14)
    certain = torch.eye(D, dtype=torch.float64)[[0, 1, 2, 0]]
    same = [View(view.z, {tap: 0 * block for tap, block in view.jacobian.items()}, certain)] * 5
    assert set(labels(name, same, 4)) <= set(range(D))
