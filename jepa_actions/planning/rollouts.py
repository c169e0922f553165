"""Asks the model what candidates lead to and the cost what that is worth, in pieces that fit the memory."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jepa_actions.errors import PlanningError, ShapeError
from jepa_actions.planning.problem import Problem

# A product of few or an odd number of rows rounds differently from one of many, so that a plan would depend on how many
# problems are planned together. Candidates are repeated to a multiple of this: measured on AVX2 with MKL, 1 and 2
# threads, single and double precision, forward and backward, every multiple of 4 rows agrees; AVX-512 works on 8.
ROWS = 8


def imagine(
    problem: Problem, candidates: Float[Tensor, "p s h a"], *, chunk: int = 0, iteration: int = 0
) -> Float[Tensor, "p s"]:
    """Cost of candidates under the model.

    Arguments:
        chunk: most (problem, candidate) pairs per rollout, to bound memory; 0 imagines all at once. Only candidates
            are split, because a context is opaque: `ROWS` candidates of every problem are the smallest piece.
        iteration: only names the place in an error.

    Raises: ShapeError when the cost is not (P, S); PlanningError naming problem, candidate and iteration of a NaN, and
        the step where the imagined latents show it, or from which on the cost of these latents does.
    """
    pieces = [_cost(problem, part, first, iteration) for first, part in _pieces(candidates, chunk)]
    return torch.cat(pieces, dim=1)


def imagine_with_gradient(
    problem: Problem, candidates: Float[Tensor, "p s h a"], *, chunk: int = 0, iteration: int = 0
) -> tuple[Float[Tensor, "p s"], Float[Tensor, "p s h a"]]:
    """As `imagine`, and the derivative of each candidate's cost by its actions, zero where the cost is infinite.

    Every piece is differentiated before the next is imagined. Gradients of the model's weights are left alone.

    Raises: as `imagine`; PlanningError for a cost without a gradient, or with one that is NaN.
    """
    costs, gradients = [], []
    for first, part in _pieces(candidates.detach(), chunk):
        with torch.enable_grad():
            leaf = part.clone().requires_grad_(True)
            cost = _cost(problem, leaf, first, iteration)
            gradient = torch.autograd.grad(cost.sum(), leaf, allow_unused=True)[0] if cost.requires_grad else None
        if gradient is None:
            raise PlanningError(
                "cost: found none that depends on the actions differentiably (is the rollout under no_grad or "
                "inference_mode?), expected one for a planner that follows gradients"
            )
        gradients.append(gradient.masked_fill(cost.isinf()[:, :, None, None], 0.0))
        costs.append(cost.detach())
        if bool(gradients[-1].isnan().any()):
            row, column = (int(i) for i in gradients[-1].isnan().nonzero()[0, :2])
            raise PlanningError(
                f"gradient of the cost at problem {row}, candidate {first + column}, iteration {iteration}: "
                "found NaN, expected numbers"
            )
    return torch.cat(costs, dim=1), torch.cat(gradients, dim=1)


def _pieces(candidates: Float[Tensor, "p s h a"], chunk: int) -> Iterator[tuple[int, Float[Tensor, "p k h a"]]]:
    """Pieces of the candidates, each with the number of its first one."""
    problems, samples = candidates.shape[:2]
    step = samples if chunk <= 0 else max(ROWS, chunk // problems // ROWS * ROWS)
    for first in range(0, samples, step):
        yield first, candidates[:, first : first + step]


def _cost(problem: Problem, part: Float[Tensor, "p k h a"], first: int, iteration: int) -> Float[Tensor, "p k"]:
    samples = part.shape[1]
    repeated = part[:, -1:].detach().expand(-1, -samples % ROWS, -1, -1)
    padded = torch.cat([part, repeated], dim=1) if samples % ROWS else part
    rollout = problem.model.rollout(problem.context, padded)
    cost = problem.cost(rollout, problem.goal)
    if tuple(cost.shape) != tuple(padded.shape[:2]):
        raise ShapeError(f"cost: found shape {tuple(cost.shape)}, expected {tuple(padded.shape[:2])}")
    cost = cost[:, :samples]
    if bool(cost.isnan().any()):
        row, column = (int(i) for i in cost.isnan().nonzero()[0])
        raise PlanningError(
            f"cost at problem {row}, candidate {first + column}, iteration {iteration}: found NaN, expected a number"
            f"{_imagined_step(rollout, row, column) or _costed_step(problem, padded.detach(), row, column)}"
        )
    return cost


def _imagined_step(rollout: Any, row: int, column: int) -> str:
    """Where the imagined latents of a candidate turn NaN, for an error."""
    z = getattr(rollout, "z", None)
    if not isinstance(z, Tensor) or z.ndim < 3:
        return ""
    broken = z[row, column].flatten(1).isnan().any(dim=1) if z.ndim > 3 else z[row, column].isnan()
    return f"; its imagined latent is NaN from step {int(broken.int().argmax())} on" if bool(broken.any()) else ""


@torch.no_grad()
def _costed_step(problem: Problem, candidates: Float[Tensor, "p k h a"], row: int, column: int) -> str:
    """Where the cost of a candidate turns NaN though its latents do not, for an error: asked again, step by step."""
    for step in range(candidates.shape[2]):
        rollout = problem.model.rollout(problem.context, candidates[:, :, : step + 1])
        if bool(problem.cost(rollout, problem.goal)[row, column].isnan()):
            return f"; its latents are finite, its cost is NaN from step {step} on"
    return ""
