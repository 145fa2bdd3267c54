"""k-means, by scikit-learn: the one place of acquisitions and core that imports more than torch."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.mapped_rows import mapped
from fkal.core.row_stream import ROWS_AT_ONCE, Rows, RowStream

MOST_ON_ALL = 50
"""Up to so many clusters every step looks at all rows, with more at batches, as in TypiClust's program."""


def k_means(rows: Rows, k: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """The cluster of each of n rows, of at most k; rows that are equal share one, and there may then be fewer.

    Lloyd's algorithm, with more than `MOST_ON_ALL` clusters on batches (Sculley, Web-Scale K-Means Clustering, WWW
    2010), seeded by k-means++. It works with as many threads as torch: scikit-learn would take all cores, and its sums
    would depend on their number. The rows of a stream are written to a file meanwhile, in float32.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    seed = int(torch.randint(1 << 31, (), generator=generator))
    k = min(k, len(rows))
    whole = rows.float().cpu() if isinstance(rows, Tensor) else _written(rows)
    algorithm = (
        KMeans(k, n_init=1, random_state=seed, copy_x=isinstance(rows, Tensor))
        if k <= MOST_ON_ALL
        else MiniBatchKMeans(k, batch_size=4096, n_init=1, random_state=seed)
    )
    with warnings.catch_warnings(), threadpool_limits(torch.get_num_threads()):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        found = algorithm.fit_predict(whole.numpy())
    return torch.from_numpy(found).long().to(rows.device)


def _written(rows: RowStream) -> Float[Tensor, "n l"]:
    whole = mapped(rows.shape, torch.float32)
    for part, into in zip(rows.split(), whole.split(ROWS_AT_ONCE), strict=True):
        into.copy_(part)
    return whole
