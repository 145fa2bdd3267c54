"""The maths: pure functions of tensors that import torch alone."""
