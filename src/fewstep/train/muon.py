"""Muon: momentum with an orthogonalised update for every matrix (Jordan et al. 2024; Liu et al. 2025, 2502.16982).

`torch.optim.Muon` takes only 2-D weights and orthogonalises in bfloat16, which a CPU without bfloat16 units emulates;
diffusion networks are mostly convolutions and the starter is trained on CPUs. Here convolutions are seen as matrices
(out, in*h*w), and the iteration runs in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# The quintic a + b x^2 + c x^4 of Jordan et al.: five rounds bring every singular value into about [0.7, 1.2].
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, rounds: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: U V^T of `matrix` = U S V^T, by Newton-Schulz rounds.

    `matrix` (m, n), any floating dtype; the result has its dtype. Singular values end in about [0.7, 1.2].
    Every round multiplies X from the left by a polynomial P of X X^T, so the rounds run on m x m matrices alone and the
    long side is touched twice in all.
    """
    a, b, c = QUINTIC
    x = matrix.float()
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    gram, identity = x @ x.mT, torch.eye(len(x), device=x.device)
    product = polynomial = a * identity + b * gram + c * (gram @ gram)
    for _ in range(rounds - 1):
        gram = polynomial @ (polynomial @ gram)
        polynomial = torch.addmm(a * identity + b * gram, gram, gram, alpha=c)
        product = polynomial @ product
    x = product @ x
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(Optimizer):
    """Muon for weights of two or more dimensions, Adam for the rest: biases, norms, and tables of embeddings.

    `lr` is the RMS of a matrix's update divided by 0.2 (Moonlight's scaling, so that one value fits all shapes);
    `adam_lr` is Adam's. Weight decay is decoupled and applies to matrices alone.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float = 0.01,
        adam_lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
        for weight in model.parameters():
            if weight.requires_grad:
                (others if weight.ndim < 2 or weight in tables else matrices).append(weight)
        groups = [
            {"params": matrices, "lr": lr, "muon": True, "momentum": momentum, "weight_decay": weight_decay},
            {"params": others, "lr": adam_lr, "muon": False, "betas": betas, "eps": 1e-8},
        ]
        super().__init__([group for group in groups if group["params"]], {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if group["muon"]:
                    self._muon(weight, weight.grad, group["lr"], group["momentum"], group["weight_decay"])
                else:
                    self._adam(weight, weight.grad, group["lr"], group["betas"], group["eps"])

    def _muon(self, weight: Tensor, grad: Tensor, lr: float, momentum: float, decay: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(grad)
        state["momentum"].lerp_(grad, 1 - momentum)
        direction = grad.lerp(state["momentum"], momentum).flatten(1)  # Nesterov
        size = 0.2 * max(direction.shape) ** 0.5
        weight.mul_(1 - lr * decay)
        weight.add_(orthogonalize(direction).view(weight.shape), alpha=-lr * size)

    def _adam(self, weight: Tensor, grad: Tensor, lr: float, betas: tuple[float, float], eps: float) -> None:
        state = self.state[weight]
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(grad), square=torch.zeros_like(grad))
        beta1, beta2 = betas
        state["step"] += 1
        state["mean"].lerp_(grad, 1 - beta1)
        state["square"].lerp_(grad.square(), 1 - beta2)
        count = state["step"].item()
        scale = (state["square"] / (1 - beta2**count)).sqrt_().add_(eps)
        weight.addcdiv_(state["mean"], scale, value=-lr / (1 - beta1**count))
