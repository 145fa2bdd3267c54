"""Fisher information of the last layer, class by class: what BAIT looks at.

Of an image with features b and probabilities p the block of class c is s_c b b^T, s_c = p_c (1 - p_c).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.core.evidence import Outputs

RIDGE = 1.0
"""lambda: what M starts from, as in the authors' program."""


def scales(outputs: Outputs) -> Float[Tensor, "n d"]:
    """s_c = p_c (1 - p_c)."""
    p = outputs.logits.double().softmax(dim=1)
    return (p * (1 - p)).to(outputs.features)


def blocks(outputs: Outputs) -> Float[Tensor, "d l l"]:
    """Sums of s_c b b^T over images. float64."""
    b = outputs.features.double()
    return torch.stack([(b * s[:, None]).T @ b for s in scales(outputs).double().T])


class Designed:
    """M^-1 and M^-1 F M^-1 of every class, and for each candidate image b what taking it would change.

    With u_c = s_c b^T M_c^-1 b and v_c = s_c b^T M_c^-1 F_c M_c^-1 b, taking it lowers tr(M^-1 F) by
    sum_c v_c / (1 + u_c), and giving it back raises it by sum_c v_c / (1 - u_c) (Sherman and Morrison, 1950).
    Each change is of rank one, so u and v of all candidates follow in O(n l d).
    """

    def __init__(self, m: Float[Tensor, "d l l"], f: Float[Tensor, "d l l"], candidates: Outputs, share: float) -> None:
        inverse = torch.linalg.inv(m)
        self.inverse, self.middle = inverse, inverse @ f @ inverse
        self.b = candidates.features
        self.s = scales(candidates) * share  # (n d)
        self.u, self.v = self._forms(self.inverse), self._forms(self.middle)
        self.is_open = torch.ones(len(self.b), dtype=torch.bool, device=self.b.device)

    @staticmethod
    def of(everything: Outputs, labeled: Outputs, candidates: Outputs, *, share: float) -> "Designed":
        """F is the mean over everything; M the ridge and the labeled images' sum times `share`."""
        width = everything.features.shape[1]
        ridge = RIDGE * torch.eye(width, dtype=torch.float64, device=everything.features.device)
        return Designed(ridge + share * blocks(labeled), blocks(everything) / len(everything), candidates, share)

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
        """M_c <- M_c + sign s_c b b^T."""
        s, b = self.s[row].double(), self.b[row].double()
        w, t = self.inverse @ b, self.middle @ b  # (d l)
        rho = sign / (1 + sign * s * (w @ b)) * s  # (d)
        form = t @ b
        self.inverse = self.inverse - _outer(rho, w, w)
        self.middle = self.middle - _outer(rho, w, t) - _outer(rho, t, w) + _outer(rho**2 * form, w, w)
        along_w, along_t = self.b @ w.T.to(self.b), self.b @ t.T.to(self.b)  # (n d)
        rho, form = rho.to(self.b), form.to(self.b)
        self.u = self.u - self.s * rho * along_w**2
        self.v = self.v - self.s * (2 * rho * along_w * along_t - rho**2 * form * along_w**2)

    def _forms(self, matrices: Float[Tensor, "d l l"]) -> Float[Tensor, "n d"]:
        """s_c b^T A_c b."""
        forms = [((self.b @ a.to(self.b)) * self.b).sum(dim=1) for a in matrices]
        return torch.stack(forms, dim=1) * self.s


def _outer(scale: Float[Tensor, " d"], x: Float[Tensor, "d l"], y: Float[Tensor, "d l"]) -> Float[Tensor, "d l l"]:
    return scale[:, None, None] * x[:, :, None] * y[:, None, :]
