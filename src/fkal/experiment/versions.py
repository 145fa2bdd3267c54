"""The version of the algorithm itself, part of every fingerprint; the pipeline's plan depends on this file."""

ALGO_VERSION = 2
"""Goes up by one whenever the same configuration and seed would give other results than before.

2: weights and feature maps lie channels last, which rounds otherwise.
"""

TOKEN_REVISION = 2
"""The same for methods that tap a transformer of torchvision. 2: its class token is no part of the mean of a tap."""

LABEL_REVISIONS = {
    "joint_shift": 2,
    "joint_zg": 2,
    "trace": 2,
    "mutual_information": 2,
    "mutual_information_diagonal": 2,
}
"""The same for what reads one kind of pseudo-labels alone: those not named here are as they first were.

joint_shift: 2, labeled images count among the pool's class frequencies. (joint_shift_grid, made the same way of other
features, came after that.)
joint_zg, trace, mutual_information, mutual_information_diagonal: 2, LeNet's gradients in closed form, which rounds
otherwise, as does the information of few views.
"""
