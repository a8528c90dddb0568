"""Muon for small matrices on CPU (Keller Jordan, kellerjordan.github.io/posts/muon).

Why not `torch.optim.Muon`: it iterates in bfloat16, which took 3.4 times as long per training step on a CPU
without bfloat16 instructions (AVX2), while fp32 is as fast everywhere. AdamW alone needs more than five times
the steps.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration, from the post."""
ITERATIONS = 5
MOMENTUM = 0.95


class Muon:
    """Nesterov momentum whose update is made orthogonal. Steps in place, no weight decay."""

    def __init__(self, matrices: Iterable[Tensor]) -> None:
        self.matrices = list(matrices)
        self.momenta = [torch.zeros_like(matrix) for matrix in self.matrices]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for matrix, momentum in zip(self.matrices, self.momenta, strict=True):
            gradient = matrix.grad
            assert gradient is not None
            momentum.lerp_(gradient, 1 - MOMENTUM)
            scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            update = orthogonal(gradient.lerp(momentum, MOMENTUM))
            matrix.sub_(update, alpha=learning_rate * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly U Vᵀ of the singular value decomposition U S Vᵀ: singular values end between about 0.7 and
    1.2."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
