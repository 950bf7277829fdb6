"""Contrast vectors: the arithmetic on states that are known, and the search."""

from __future__ import annotations

from collections.abc import Callable

import torch

from latentqa.baselines.steering import make_treatment
from latentqa.baselines.steering.context import MethodContext
from latentqa.baselines.steering.contrast import Contrast, read_contrast
from latentqa.baselines.steering.treatment import Treated
from tests.baselines.steering.conftest import STIMULI


def contrast(differences: torch.Tensor) -> Contrast:
    plain = torch.randn(len(differences), 1, 4, generator=torch.Generator().manual_seed(1))
    return Contrast(plain + differences[:, None], plain, (7,))


def test_the_mean_is_the_mean_difference() -> None:
    found = contrast(torch.tensor([[2.0, 0, 0, 0], [0, 4.0, 0, 0]])).mean(7)
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0, 0.0, 0.0]))


def test_the_principal_component_follows_the_strongest_difference_and_keeps_the_side() -> None:
    one = contrast(torch.tensor([[9.0, 0.1, 0, 0], [11.0, -0.1, 0, 0], [0.0, 1.0, 0, 0]]))
    principal = one.principal(7)
    assert principal[0] > 0 and abs(principal[0]) > 20 * abs(principal[1])
    torch.testing.assert_close(principal.norm(), one.mean(7).norm())
    swapped = Contrast(one.plain, one.controlled, (7,)).principal(7)
    torch.testing.assert_close(swapped, -principal)


def test_both_sides_are_read_of_the_targets_own_replies(context: Callable[..., MethodContext]) -> None:
    made = context()
    for where in ("completion", "last"):
        found = read_contrast(made, where, (1, 2))
        assert found.controlled.shape == found.plain.shape == (len(STIMULI), 2, 32)
        assert not torch.allclose(found.controlled, found.plain)


def test_the_search_keeps_to_the_budget_and_takes_the_best(context: Callable[..., MethodContext]) -> None:
    seen: list[torch.Tensor] = []

    def judge(treated: Treated) -> float:
        token = torch.tensor([[5, 9]])
        with torch.no_grad():
            seen.append(treated.target.model(token).logits[0, -1, 7])
        return float(seen[-1])

    made = make_treatment("contrast", context(judge=judge, budget=6))
    assert len(seen) == 6 and made.choices["tried"] == 6
    assert made.choices["validation"] == round(float(max(seen)), 4)
    assert made.steering is not None and made.steering.card.layers == (made.choices["layer"],)
    assert made.strength == made.choices["strength"] and made.steering.card.control == "Talk about soup."
