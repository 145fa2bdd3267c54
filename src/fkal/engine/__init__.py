"""Training, pretraining, gathering evidence and the loop: every forward and backward pass."""
