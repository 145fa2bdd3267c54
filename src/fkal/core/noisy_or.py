"""Noisy-or: the p images that most probably help the targets, each of which one helper is enough for.

Image a helps target t with probability k(t, a), whatever the others do. The expected number of helped targets,
sum_t w_t (1 - prod_a (1 - k(t, a))), is submodular, so greedy is within 1 - 1/e of the best choice (Nemhauser, Wolsey,
Fisher, 1978). A gain only falls as others are picked: an old one bounds it from above, and few are computed again
(Minoux, 1978). Every gain that decides is exact, and nothing is drawn.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.kernels import BLOCK_ENTRIES
from fkal.core.picks import Picks, refuse_beyond
from fkal.core.row_stream import joined

Helps = Callable[[Tensor], Tensor]
"""Candidates (r,) to the probabilities that they help each target (r m)."""

ROUNDING = 1e-6
"""Gains that differ by no more than this part of the larger are equal: float32 rounds a product by its neighbours in a
block, and copies of an image should not be told apart by that."""

FIRST_LOOK = 16
"""Candidates whose gain is computed again at first; twice as many with each further look."""


def noisy_or(
    helps: Helps, n: int, p: int, *, log_weights: Float[Tensor, " m"], block_entries: int = BLOCK_ENTRIES
) -> Picks:
    """p of n candidates that greedily maximise sum_t exp(log_weights_t) (1 - prod_a (1 - k(t, a))).

    Memory grows with n + m and `block_entries`, never with n m.

    Args:
        helps: The rows k(., a) of some candidates, in [0, 1].
        n: Number of candidates.
        p: How many to pick.
        log_weights: Logarithm of what each target counts that nobody has helped yet, float64; -inf is nothing.
        block_entries: Probabilities held at once.

    Returns:
        Positions; the score is the gain when picked, the target the one that gained most. Of equal gains the smaller
        position is taken.

    Raises:
        ValueError: p exceeds n, or a probability is NaN.

    Example:
        >>> k = torch.tensor([[0.9, 0.1], [0.8, 0.0], [0.0, 0.5]])
        >>> noisy_or(lambda rows: k[rows], 3, 2, log_weights=torch.zeros(2, dtype=torch.float64)).positions.tolist()
        [0, 2]
    """
    refuse_beyond(p, n)
    wanting = _Wanting(log_weights)
    search = _Search(helps, n, max(1, block_entries // len(log_weights)), wanting)
    positions, scores, targets = [], [], []
    for _ in range(p):
        best, gain = search.best()
        row = helps(best[None])[0].double()
        positions.append(best)
        scores.append(gain)
        targets.append((row * wanting.shares).argmax())
        search.take(best, row)
    return Picks(torch.stack(positions), scores=torch.stack(scores), targets=torch.stack(targets))


class _Wanting:
    """What targets still count: `shares` of the largest, whose logarithm is `log_scale`. A product over thousands of
    images is below the smallest float; what targets count beside each other does not."""

    def __init__(self, log_weights: Float[Tensor, " m"]) -> None:
        self._logs = log_weights.double()
        self._scale()

    def _scale(self) -> None:
        largest = self._logs.amax()
        self.log_scale = torch.where(largest.isfinite(), largest, 0.0)
        self.shares = (self._logs - self.log_scale).exp()

    def help(self, row: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        """After one more pick; returns the factor from gains in the scale before to gains in the scale now."""
        before = self.log_scale
        self._logs = self._logs + torch.log1p(-row)
        self._scale()
        return (before - self.log_scale).exp()


class _Search:
    """Upper bounds of all gains, and which of them are gains."""

    def __init__(self, helps: Helps, n: int, block: int, wanting: _Wanting) -> None:
        self._helps, self._block, self._wanting = helps, block, wanting
        rows = torch.arange(n, device=wanting.shares.device)
        self._bounds = self._gains(rows)
        self._is_exact = torch.ones(n, dtype=torch.bool, device=rows.device)

    def best(self) -> tuple[Int[Tensor, ""], Float[Tensor, ""]]:
        """The position of the largest gain, and the gain."""
        look = FIRST_LOOK
        while True:
            known = torch.where(self._is_exact, self._bounds, -torch.inf)
            unknown = torch.where(self._is_exact, -torch.inf, self._bounds)
            least = known.amax() * (1 - ROUNDING)
            bound = unknown.amax()
            if bound < least or bound == -torch.inf:
                position = (known >= least).int().argmax()
                return position, known[position] * self._wanting.log_scale.exp()
            rows = unknown.topk(min(look, len(unknown))).indices
            rows = rows[~self._is_exact[rows]].sort().values
            self._bounds[rows] = self._gains(rows)
            self._is_exact[rows] = True
            look *= 2

    def take(self, position: Int[Tensor, ""], row: Float[Tensor, " m"]) -> None:
        """Leaves the image out from now on; all other gains become bounds, but for those that are nothing."""
        self._bounds = (self._bounds * self._wanting.help(row)).masked_fill_(self._bounds == -torch.inf, -torch.inf)
        self._bounds[position] = -torch.inf
        self._is_exact = self._bounds <= 0

    def _gains(self, rows: Int[Tensor, " r"]) -> Float[Tensor, " r"]:
        shares = self._wanting.shares
        gains = joined((self._helps(part).to(shares) @ shares for part in rows.split(self._block)), len(rows))
        if gains.isnan().any():
            raise ValueError("a similarity is NaN; check the model's outputs for infinite values")
        return gains
