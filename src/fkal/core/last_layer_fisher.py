"""Fisher information of the last layer, class by class: what BAIT looks at.

Of an image with features b and probabilities p the block of class c is s_c b b^T, s_c = p_c (1 - p_c).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.core.evidence import Outputs

ROWS_AT_ONCE = 4096
"""Images."""

RIDGE = 1.0
"""lambda: what M starts from, as in the authors' program."""


def scales(outputs: Outputs) -> Float[Tensor, "n d"]:
    """s_c = p_c (1 - p_c)."""
    p = outputs.logits.double().softmax(dim=1)
    return (p * (1 - p)).to(outputs.features)


def blocks(outputs: Outputs) -> Float[Tensor, "d l l"]:
    """Sums of s_c b b^T over images, `ROWS_AT_ONCE` in the features' own precision, and their sums in float64."""
    width = outputs.features.shape[1]
    total = torch.zeros(outputs.logits.shape[1], width, width, dtype=torch.float64, device=outputs.features.device)
    for b, s in zip(outputs.features.split(ROWS_AT_ONCE), scales(outputs).split(ROWS_AT_ONCE), strict=True):
        for c, s_c in enumerate(s.T):
            total[c] += (b * s_c[:, None]).T @ b
    return total


class BaitState:
    """M^-1 and M^-1 F M^-1 of every class, and for each candidate image b what taking it would change.

    With u_c = s_c b^T M_c^-1 b and v_c = s_c b^T M_c^-1 F_c M_c^-1 b, taking it lowers tr(M^-1 F) by
    sum_c v_c / (1 + u_c), and giving it back raises it by sum_c v_c / (1 - u_c) (Sherman and Morrison, 1950).
    Each change is of rank one and kept as such, so u and v of all candidates follow in O(n l d).
    """

    def __init__(self, m: Float[Tensor, "d l l"], f: Float[Tensor, "d l l"], candidates: Outputs, share: float) -> None:
        self._inverse = torch.linalg.inv(m)
        self._middle = self._inverse @ f @ self._inverse
        self._w = self._t = m.new_zeros(len(m), 0, m.shape[1])  # (d r l)
        self._rho = self._form = m.new_zeros(len(m), 0)  # (d r)
        self.b = candidates.features
        self.s = scales(candidates) * share  # (n d)
        self.u, self.v = self._forms(self._inverse), self._forms(self._middle)
        self.is_open = torch.ones(len(self.b), dtype=torch.bool, device=self.b.device)

    @staticmethod
    def of(
        everything: Outputs, labeled: Outputs, candidates: Outputs, *, labeled_share: float, pick_share: float
    ) -> "BaitState":
        """F is the mean over everything. M is the ridge and the labeled images' sum times `labeled_share`; each image
        that is taken adds its information times `pick_share`."""
        width = everything.features.shape[1]
        ridge = RIDGE * torch.eye(width, dtype=torch.float64, device=everything.features.device)
        m, f = ridge + labeled_share * blocks(labeled), blocks(everything) / len(everything)
        return BaitState(m, f, candidates, pick_share)

    @property
    def gains(self) -> Float[Tensor, " n"]:
        return (self.v / (1 + self.u)).sum(dim=1)

    def best(self) -> tuple[int, float]:
        """The open candidate that lowers the trace most, and by how much; of equals the first."""
        gains = torch.where(self.is_open, self.gains, -torch.inf)
        row = int(gains.argmax())
        return row, float(gains[row])

    def least(self, rows: list[int]) -> int:
        """Of the taken ones that which raises the trace least when given back."""
        losses = (self.v[rows] / (1 - self.u[rows])).sum(dim=1)
        return rows[int(losses.argmin())]

    def take(self, row: int) -> None:
        self._change(row, sign=1)
        self.is_open[row] = False

    def give_back(self, row: int) -> None:
        self._change(row, sign=-1)

    def _change(self, row: int, *, sign: int) -> None:
        """M_c <- M_c + sign s_c b b^T.

        With w = M^-1 b, t = M^-1 F M^-1 b and rho = sign s / (1 + sign s b^T w), M^-1 loses rho w w^T, and
        M^-1 F M^-1 loses rho (w t^T + t w^T) - rho^2 (b^T t) w w^T.
        """
        s, b = self.s[row].double(), self.b[row].double()
        w, t = self._times(b)
        rho, form = sign * s / (1 + sign * s * (w @ b)), t @ b  # (d)
        along_w, along_t = (self.b @ torch.cat([w, t]).T.to(self.b)).chunk(2, dim=1)  # (n d)
        own_rho, own_form = rho.to(self.b), form.to(self.b)
        self.u = self.u - self.s * own_rho * along_w**2
        self.v = self.v - self.s * own_rho * along_w * (2 * along_t - own_rho * own_form * along_w)
        self._w, self._t = torch.cat([self._w, w[:, None]], dim=1), torch.cat([self._t, t[:, None]], dim=1)
        self._rho, self._form = torch.cat([self._rho, rho[:, None]], 1), torch.cat([self._form, form[:, None]], 1)

    def _times(self, b: Float[Tensor, " l"]) -> tuple[Float[Tensor, "d l"], Float[Tensor, "d l"]]:
        """M^-1 b and M^-1 F M^-1 b, by the matrices at first and the changes since."""
        on_w, on_t = self._rho * (self._w @ b), self._rho * (self._t @ b)  # (d r)
        first = (on_t - self._rho * self._form * on_w)[..., None] * self._w + on_w[..., None] * self._t
        return self._inverse @ b - (on_w[..., None] * self._w).sum(dim=1), self._middle @ b - first.sum(dim=1)

    def _forms(self, matrices: Float[Tensor, "d l l"]) -> Float[Tensor, "n d"]:
        """s_c b^T A_c b."""
        forms = [((self.b @ a.to(self.b)) * self.b).sum(dim=1) for a in matrices]
        return torch.stack(forms, dim=1) * self.s
