"""The decoder's last stage: it learns beside its critic, and neither descends the other's loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from recipes.emoji import autoencoder, crisping
from recipes.emoji.pool import Pool

pytestmark = pytest.mark.slow


def pool(folder: Path) -> Pool:
    def drawn(number: int) -> dict[str, Tensor]:
        return {"pixels": torch.randint(256, (4, 128, 128, 3), generator=torch.Generator().manual_seed(number)).byte()}

    return Pool(drawn, folder, width=1, size=4)


def test_each_descends_its_own_loss_and_no_latent_moves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae, critic = autoencoder.build(), crisping.Critic()
    learning = crisping.learners(vae, critic)
    objective = crisping.Crisping(vae, critic, pool(tmp_path))
    with torch.no_grad():
        critic.last.weight.normal_(std=0.1)
    objective.pool.advance(0)

    def gradients() -> dict[str, Tensor | None]:
        learning.zero_grad()
        objective(torch.arange(2), torch.Generator().manual_seed(0))["loss"].backward()
        return {name: None if p.grad is None else p.grad.clone() for name, p in vae.named_parameters()}

    first = gradients()
    assert all((gradient is None) == name.startswith(("encoder", "quant_conv")) for name, gradient in first.items())
    told = {name: p.grad.clone() for name, p in critic.named_parameters() if p.grad is not None}
    assert len(told) == len(list(critic.parameters()))

    # the critic's gradient is that of the hinge loss alone
    critic.zero_grad()
    x = crisping.as_input(objective.pool.draw(2, torch.Generator().manual_seed(0))["pixels"])
    generator = torch.Generator().manual_seed(0)
    objective.pool.draw(2, generator)
    with torch.no_grad():
        z = autoencoder.mode(vae, x)
        y = vae.decode(z + autoencoder.LATENT_NOISE * torch.randn(z.shape, generator=generator)).sample
    (torch.relu(1 - critic(x)[1]).mean() + torch.relu(1 + critic(y)[1]).mean()).backward()
    for name, p in critic.named_parameters():
        assert torch.allclose(p.grad, told[name], rtol=1e-3, atol=1e-6), name  # type: ignore[arg-type]


def test_the_decoder_gets_the_reconstruction_and_shares_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no shares it is the reconstruction's gradient; each share adds as much in length, at the picture."""
    torch.manual_seed(0)
    objective = crisping.Crisping(autoencoder.build(), critic := crisping.Critic(), pool(tmp_path))
    with torch.no_grad():
        critic.last.weight.normal_(std=0.1)
    x, start = torch.rand(2, 2, 3, 32, 32).mul(2).sub(1).unbind(0)
    real = [each.detach() for each in critic(x)[0]]

    def at_the_picture(features: float, adversarial: float) -> Tensor:
        monkeypatch.setattr(crisping, "FEATURES", features)
        monkeypatch.setattr(crisping, "ADVERSARIAL", adversarial)
        y = start.clone().requires_grad_(True)
        asked, _ = objective._asked(x, y, real)
        asked.backward()
        assert y.grad is not None
        return y.grad

    y = start.clone().requires_grad_(True)
    d = y - x
    (d.abs().mean() + d.square().mean() + d.diff(dim=-1).abs().mean() + d.diff(dim=-2).abs().mean()).backward()
    alone = at_the_picture(0, 0)
    assert y.grad is not None
    assert torch.allclose(alone, y.grad, atol=1e-9)
    for shares in ((0.5, 0.0), (0.0, 0.1)):
        added = at_the_picture(*shares) - alone
        assert float(added.norm() / alone.norm()) == pytest.approx(sum(shares), rel=1e-4)
    before = -critic(start)[1].mean()
    step = at_the_picture(0.0, 0.1) - alone
    assert -critic(start - 10 * step)[1].mean() < before  # downhill: more like real ones


def test_crispness_is_one_of_a_perfect_copy_and_less_of_a_blur(monkeypatch: pytest.MonkeyPatch) -> None:
    class Copy:
        device = torch.device("cpu")

        def decode(self, x: Tensor) -> object:
            return type("Decoded", (), {"sample": x})

    from recipes.emoji.compositions import Composition

    pixels = torch.randint(256, (128, 128, 3), generator=torch.Generator().manual_seed(0)).byte().numpy()
    sets = {"noise": [Composition(pixels, ("noise",), "plain", False)]}
    monkeypatch.setattr(crisping, "mode", lambda vae, x: x)
    assert crisping.crispness(Copy(), sets)["noise"] == pytest.approx(1)  # type: ignore[arg-type]
    monkeypatch.setattr(crisping, "mode", lambda vae, x: torch.nn.functional.avg_pool2d(x, 3, 1, 1))
    assert crisping.crispness(Copy(), sets)["noise"] < 0.5  # type: ignore[arg-type]
