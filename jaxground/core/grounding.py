"""From a prior at the output to the mass at any tap, in one backward pass."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxground.core.contrast import with_dual
from jaxground.core.names import find, slot_of
from jaxground.core.program import Program
from jaxground.core.splitting import from_slot
from jaxground.core.tables import EXCITATION, Composite, Rules
from jaxground.core.transform import evaluate, trace


class Grounding(NamedTuple):
    """A forward pass, ready to be grounded.

    Attributes:
      outputs: The value of `f(x)`.
      activations: The values where the mass will be read: `x` itself, the tapped array, or a dict
        of tapped arrays.
      pull: Takes the prior, shaped like `outputs`, to the mass, shaped like `activations`. It is
        linear: `jax.vmap(pull)` grounds many priors on one forward pass.
    """

    outputs: Any
    activations: Any
    pull: Callable[[Any], Any]


def ground(
    f: Callable[..., Any],
    x: Any,
    *,
    at: str | Sequence[str] | None = None,
    rules: Rules | Composite = EXCITATION,
    contrastive: bool | Literal["apart"] = False,
    given: Array | None = None,
) -> Grounding:
    """Returns the outputs of `f` at `x`, and the pullback of the mass to the taps `at`.

    Only the part of the network above the taps is differentiated and needs rules.

    Args:
      f: Any function that JAX can trace; what it closes over is weight.
      x: The input: an array, or any tree of them.
      at: A tap, several, or `None` for the input itself.
      rules: The table of the method.
      contrastive: Subtract the mass of the dual unit, that of the negated weights of the last
        weighted linear maps (Zhang et al., ECCV 2016, section 3.3). The mass is then signed.
        `"apart"` does not subtract: `pull` returns both masses, on a new first axis of two.
      given: The value of the one tap, from an earlier pass: what only that needs does not run.

    Raises:
      KeyError: There is no such tap; the message lists those that are there.
      MissingRuleError: An operation without rule lies between tap and output.
      ValueError: The outputs do not depend on a tap; or `contrastive`, and no weighted linear map
        feeds the output, or a sum of several.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: tap(jax.nn.relu(x), "hidden") @ jnp.array([[2.0, -1.0], [1.0, 1.0]])
      >>> outputs, hidden, pull = ground(f, jnp.array([[3.0, 1.0]]), at="hidden")
      >>> pull(jnp.array([[0.0, 1.0]]))
      Array([[0., 1.]], dtype=float32)
    """
    program, tree = trace(f, rules, x)
    names = (at,) if isinstance(at, str) else tuple(at or ())
    slots = {name: slot_of(program, name) for name in names}
    dead = [name for name, slot in slots.items() if not _reaches(program, slot)]
    if dead:
        raise ValueError(
            f"the outputs do not depend on {dead}: nothing uses the value that `tap` returned, or "
            "stop_gradient stands in between"
        )
    sources = tuple(slots.values()) or program.inputs
    arrays = jax.tree.leaves(x)
    if given is not None:
        if not isinstance(at, str):
            raise ValueError(f"a value is given for one tap, but `at` is {at!r}")
        program, arrays = from_slot(program, *sources), [*arrays, given]
    overrides = {}
    if contrastive:
        program, overrides = with_dual(program, sources)

    def both(outputs):
        """Returns the outputs and, if `contrastive`, those of the dual unit, equal but in pull."""
        size = tree.num_leaves
        return [tree.unflatten(outputs[i : i + size]) for i in range(0, len(outputs), size)]

    if at is None:

        def of_input(x):
            outputs, _ = evaluate(program, jax.tree.leaves(x), overrides=overrides)
            return both(outputs)

        (outputs, *_), pull = jax.vjp(of_input, x)
        return Grounding(outputs, x, _of_prior(lambda priors: pull(priors)[0], contrastive))

    def of_probes(probes):
        outputs, values = evaluate(
            program,
            arrays,
            probes=probes,
            overrides=overrides,
            read=list(slots.values()),
        )
        return both(outputs), dict(zip(slots, values, strict=True))

    shapes = {slot: program.shapes[slot] for slot in {*sources, *_beside(program, sources)}}
    zeros = {slot: jnp.zeros(s.shape, s.dtype) for slot, s in shapes.items()}
    (outputs, *_), pull, activations = jax.vjp(of_probes, zeros, has_aux=True)

    def pull_to_taps(priors):
        masses = pull(priors)[0]
        return {name: masses[slot] for name, slot in slots.items()}

    if isinstance(at, str):
        pull_to_tap = _of_prior(lambda priors: pull_to_taps(priors)[at], contrastive)
        return Grounding(outputs, activations[at], pull_to_tap)
    return Grounding(outputs, activations, _of_prior(pull_to_taps, contrastive))


def _of_prior(
    pull: Callable[[list[Any]], Any], contrastive: bool | Literal["apart"]
) -> Callable[[Any], Any]:
    """Returns the pullback of one prior; `pull` takes that of the outputs and of their duals."""

    def apart(prior):
        pairs = [(jnp.stack([p, 0 * p]), jnp.stack([0 * p, p])) for p in jax.tree.leaves(prior)]
        trees = [jax.tree.unflatten(jax.tree.structure(prior), p) for p in zip(*pairs, strict=True)]
        return jax.vmap(pull)(trees)

    if contrastive == "apart":
        return apart
    if contrastive:
        return lambda prior: pull([prior, jax.tree.map(jnp.negative, prior)])
    return lambda prior: pull([prior])


def _reaches(program: Program, slot: int) -> bool:
    """Says whether the outputs depend on a slot that can carry mass."""
    smooth = jnp.issubdtype(program.shapes[slot].dtype, jnp.inexact)
    return smooth and not program.dependents([slot]).isdisjoint(program.outputs)


def _beside(program: Program, taps: Sequence[int]) -> set[int]:
    """Returns the slots where signals that pass the taps by meet those that come from them.

    At a tap on one branch the other branch is no bias: it takes its share, as it does on the way
    to the input. These slots get probes too, so that the rules see signals there.
    """
    signals, above = program.dependents(program.inputs), program.dependents(taps)
    return {
        slot
        for step in program.walk()
        if not above.isdisjoint(step.inputs)
        for slot in signals.intersection(step.inputs) - above
        if jnp.issubdtype(program.shapes[slot].dtype, jnp.inexact)
    }


class Mass(NamedTuple):
    """Conservation at one tap.

    Attributes:
      kept: `float32[batch]`, the sum of the mass at the tap.
      lost: `float32[batch]`, the mass of the prior less `kept`: what parents without excitatory
        child dropped on the way, and under LRP what fell to biases, if every path from the output
        to the input crosses the tap, as for most taps of our models. On a branch it is what took
        the other branches, too.
    """

    kept: Array
    lost: Array


def mass(
    f: Callable[[Array], Array],
    x: Array,
    prior: Array,
    *,
    at: Sequence[str] | None = None,
    rules: Rules | Composite = EXCITATION,
    contrastive: bool = False,
) -> dict[str, Mass]:
    """Returns how much of the prior arrives at each tap, and how much was lost above it.

    Args:
      f: Maps `[batch, ...]` to `[batch, ...]`.
      x: The input.
      prior: The mass at the output, shaped like `f(x)`; for LRP the relevance, one-hot times
        `f(x)`.
      at: Taps to report, by default all of them, from input to output.
      rules: The table of the method.
      contrastive: As for `ground`.

    Returns:
      `{tap: Mass}`, from one forward and one backward pass.

    Raises:
      ValueError: The prior has not the shape of the outputs.
      KeyError: There is no such tap.

    Example:
      >>> from jaxground.core import tap
      >>> f = lambda x: tap(x, "x") @ jnp.array([[1.0, -1.0], [3.0, -2.0]])
      >>> mass(f, jnp.ones((1, 2)), jnp.array([[0.5, 0.5]]))["x"]
      Mass(kept=Array([0.5], dtype=float32), lost=Array([0.5], dtype=float32))
    """
    program, _ = trace(f, rules, x)
    alive = (name for name, slot in find(program).items() if _reaches(program, slot))
    names = tuple(alive) if at is None else tuple(at)
    outputs, _, pull = ground(f, x, at=names, rules=rules, contrastive=contrastive)
    if not isinstance(outputs, jax.Array):
        raise TypeError(f"mass needs f to return one array, not a {type(outputs).__name__}")
    if jnp.shape(prior) != outputs.shape or not jnp.issubdtype(prior.dtype, jnp.floating):
        raise ValueError(
            f"a prior for outputs {outputs.dtype}{list(outputs.shape)} has their shape, not "
            f"{prior.dtype}{list(jnp.shape(prior))}; for classes use jax.nn.one_hot"
        )
    total = _per_example(prior)
    masses = pull(prior)
    kept = {name: _per_example(masses[name]) for name in names}
    return {name: Mass(k, total - k) for name, k in kept.items()}


def _per_example(mass: Array) -> Array:
    return mass.astype(jnp.float32).sum(tuple(range(1, mass.ndim)))
