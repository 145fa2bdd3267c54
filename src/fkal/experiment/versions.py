"""The version of the algorithm itself, part of every fingerprint; the pipeline's plan depends on this file."""

ALGO_VERSION = 2
"""Goes up by one whenever the same configuration and seed would give other results than before.

2: weights and feature maps are channels last, which rounds otherwise.
"""

TOKEN_REVISION = 2
"""The same for methods that tap a transformer of torchvision. 2: its class token is no part of the mean of a tap."""

LABEL_REVISIONS = {
    "joint_shift": 3,
    "joint_shift_grid": 2,
    "joint_zg": 2,
    "trace": 2,
    "mutual_information": 2,
    "mutual_information_diagonal": 2,
}
"""The same for what reads one kind of pseudo-labels alone: those not named here are as they first were.

joint_shift: 2, labeled images count among the pool's class frequencies. (joint_shift_grid, made the same way of other
features, came after that.) 3, and joint_shift_grid: 2, the settings of both estimators are chosen on images that had no
part in the whitening or the scaling either.
joint_zg, trace, mutual_information, mutual_information_diagonal: 2, LeNet's gradients in closed form, which rounds
otherwise, as does the information of few views.
"""

METHOD_REVISIONS = {
    "badge": 2,
    "bait": 2,
    "typiclust": 3,
    "coreset": 2,
    "uherding": 3,
    "maxherding": 3,
    "probcover": 4,
    "flqmi": 2,
}
"""The same for what one method picks.

badge: 2, a product with one gradient a pick, which rounds otherwise.
bait: 2, a pick counts P / (L + P) as in the authors' program.
typiclust: 2, clusters of up to five images wait until all others are used up; it and probcover: 2, k-means on all rows
for up to 50 clusters. 3, k-means works with as many threads as torch, which rounds otherwise.
coreset: 2, distances by one product a pick, about the pool's median, and by differences where the product loses them.
uherding: 2, near-copies among the labeled images do not shrink the radius, and an image covers itself wholly.
uherding, maxherding, probcover, flqmi: 2, greedy over more drawn candidates; flqmi over fewer drawn queries.
uherding, maxherding: 3, probcover: 4, features that are all zero are copies of each other.
"""

MATCHING_REVISIONS = {"coverage": 2, "transport": 2}
"""The same for how the targets of `pfk` share the picks.

coverage: 2, greedy over more drawn candidates and fewer drawn targets; best matches where there are no more targets
than picks.
transport: 2, the unit of length is that of the longest target, not of the first, which can be constant.
"""

CROSS_FIT_REVISION = 2
"""The same for frozen backbones with `train.on_validation`.

2: cross-fitting ends once smaller penalties are worse, and its heads are trained to a gradient of 1e-4.
"""
