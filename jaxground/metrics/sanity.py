"""Sanity checks: an explanation that does not depend on the network explains nothing of it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxground.core.program import link
from jaxground.core.tables import GRADIENT
from jaxground.metrics.similarity import Similarity, similarity

Explain = Callable[[Any, Array, ArrayLike], Array]


class Randomisation(NamedTuple):
    """What became of the maps while the network lost its parameters.

    Attributes:
      maps: `[stages, batch, h, w]`, or `[stages, batch, k, h, w]`; stage 0 is the network as it
        is, stage `i` has layer `i - 1` randomised (in the cascade: all layers up to it).
      similarity: Of the maps of each stage and of stage 0, `[stages, batch]`, or with `k`.
    """

    maps: Array
    similarity: Similarity


def cascading_randomisation(
    explain: Explain,
    model: Any,
    images: Array,
    targets: ArrayLike,
    *,
    random: Any,
    layers: Sequence[str],
) -> Randomisation:
    """Returns how maps change while layers are randomised one after another; low is good.

    An explanation that stays similar while the network is destroyed from the output down does not
    show what the network has learnt. Cost: `len(layers) + 1` explanations of the batch in one
    `lax.map`, compiled once, and the memory of one, plus the maps.

    Ours, not published: two flat maps are as similar as can be, 1, so that a constant map never
    passes; a flat map and another are not similar, 0 (see `similarity`).

    Args:
      explain: From model, images and targets to maps `[batch, h, w]`, or `[batch, k, h, w]`.
      model: Any tree of parameters: an NNX model, the variables of a Linen model, a dictionary.
      images: Preprocessed.
      targets: Passed on to `explain`, such as the classes that the trained network predicts.
      random: The same tree with random parameters: drawn by the network's own initialiser, as
        published (`models.create(name, seed=1)`), or by `shuffled`.
      layers: Paths of parts of the model, from the output down, see `layers`. A path stands for
        all parameters below it: `"fire9"`, `"fire9.expand1x1"`.

    Raises:
      ValueError: A path without parameters, the same parameter twice, or a `random` of other shape.

    Example:
      >>> model = {"head": jnp.array([2.0]), "body": jnp.array([[1.0, 0.0], [0.0, 1.0]])}
      >>> explain = lambda model, x, targets: (x[..., 0] @ model["body"]) * model["head"]
      >>> random = {"head": jnp.array([-1.0]), "body": jnp.array([[0.0, 1.0], [1.0, 0.0]])}
      >>> check = lambda model, random, x: cascading_randomisation(
      ...     explain, model, x, jnp.array([0]), random=random, layers=["head", "body"])
      >>> found = jax.jit(check)(model, random, jnp.array([[[[3.0], [1.0]]]]))
      >>> found.similarity.spearman[:, 0]
      Array([ 1., -1.,  1.], dtype=float32)

    References:
      Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 3.1.
    """  # fmt: skip
    return _randomised(explain, model, images, targets, random, layers, lambda at, i: at < i)


def independent_randomisation(
    explain: Explain,
    model: Any,
    images: Array,
    targets: ArrayLike,
    *,
    random: Any,
    layers: Sequence[str],
) -> Randomisation:
    """Returns how maps change when one layer alone is randomised, each in its turn; low is good.

    Arguments, result, cost and errors are those of `cascading_randomisation`.

    Example:
      >>> model, random = {"a": 1.0, "b": 1.0}, {"a": -1.0, "b": -1.0}
      >>> explain = lambda model, x, targets: x[..., 0] * model["a"] * model["b"]
      >>> check = lambda model, random, x: independent_randomisation(
      ...     explain, model, x, jnp.array([0]), random=random, layers=["b", "a"])
      >>> found = jax.jit(check)(model, random, jnp.array([[[[3.0], [1.0]]]]))
      >>> found.similarity.spearman[:, 0]
      Array([ 1., -1., -1.], dtype=float32)

    References:
      Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 3.2.
    """  # fmt: skip
    return _randomised(explain, model, images, targets, random, layers, lambda at, i: at == i - 1)


def random_logit(
    explain: Callable[[Array, ArrayLike], Array],
    images: Array,
    targets: Array,
    *,
    key: Array,
    classes: int,
) -> Similarity:
    """Returns how alike the maps of a class and of a random other class are; low is good.

    Cost: two explanations. Flat maps count as in `cascading_randomisation`.

    Args:
      explain: From `images` and `targets` to maps.
      images: Preprocessed.
      targets: Classes `int[batch]`, or `int[batch, k]`.
      key: Of the other classes, uniform over all but the target.
      classes: How many there are, two at least.

    Returns:
      `Similarity`, each `[batch]`, or `[batch, k]`.

    Example:
      >>> explain = lambda x, targets: x[..., 0] * (1.0 - 2 * targets[:, None, None])
      >>> check = lambda x: random_logit(
      ...     explain, x, jnp.array([0]), key=jax.random.key(0), classes=2)
      >>> jax.jit(check)(jnp.array([[[[3.0], [1.0]]]])).spearman
      Array([-1.], dtype=float32)

    References:
      Sixt et al., When Explanations Lie: Why Many Modified BP Attributions Fail, ICML 2020,
      section 4.
    """  # fmt: skip
    targets = jnp.asarray(targets)
    if classes < 2 or not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(f"targets {targets.dtype} must be classes, of at least 2, not {classes}")
    others = (targets + jax.random.randint(key, targets.shape, 1, classes)) % classes
    maps = lax.map(lambda asked: explain(images, asked), jnp.stack([targets, others]))
    return similarity(maps[0], maps[1])


def shuffled(model: Any, key: Array) -> Any:
    """Returns the model with the values of every parameter array in random order.

    So each array keeps its own distribution, whatever kind it is (variances of batch norm stay
    positive, biases stay as negative as they were) and the network its scale, while all that it has
    learnt but these distributions is gone. For networks whose initialiser is not at hand; ours.

    Args:
      model: A tree of arrays; integers among them stay as they are.
      key: Of the orders.

    Example:
      >>> shuffled({"w": jnp.arange(4.0).reshape(2, 2)}, jax.random.key(1))["w"].sum()
      Array(6., dtype=float32)
    """
    leaves, tree = jax.tree.flatten(model)
    keys = jax.random.split(key, len(leaves))
    pairs = zip(keys, leaves, strict=True)
    return tree.unflatten(
        jax.random.permutation(k, x.ravel()).reshape(x.shape) if _is_parameter(x) else x
        for k, x in pairs
    )


def layers(
    model: Any,
    images: ArrayLike,
    apply: Callable[[Any, Any], Any] = lambda model, images: model(images),
) -> tuple[str, ...]:
    """Returns the paths of a model's layers, from the output down, in the order of its program.

    A layer is what holds parameter arrays: `"conv1"` holds `conv1.kernel` and `conv1.bias`. Its
    place is where its parameters first meet something computed from the images; nothing is
    computed. Layers that the program does not use are left out.

    Args:
      model: Any tree of parameters.
      images: Of the right shape.
      apply: From model and images to the outputs; models may also be called themselves.

    Example:
      >>> model = {"first": {"w": jnp.ones(2), "b": jnp.ones(2)}, "second": {"w": jnp.ones(2)}}
      >>> apply = lambda p, x: (x * p["first"]["w"] + p["first"]["b"]) * p["second"]["w"]
      >>> layers(model, jnp.ones(2), apply)
      ('second', 'first')
    """
    closed = jax.make_jaxpr(apply)(model, images)
    program = link(closed, GRADIENT)
    names = _paths(model)
    signals = program.dependents(program.inputs[len(names) :])
    found: dict[str, int] = {}
    for name, slot in zip(names, program.inputs, strict=False):
        derived = program.dependents([slot])
        for place, step in enumerate(program.walk()):
            if not derived.isdisjoint(step.inputs) and not signals.isdisjoint(step.outputs):
                layer = name.rpartition(".")[0] or name
                found[layer] = min(place, found.get(layer, place))
                break
    return tuple(sorted(found, key=lambda layer: found[layer], reverse=True))


def _randomised(explain, model, images, targets, random, layers, lost) -> Randomisation:
    """Returns maps and similarities of all stages; `lost(at, i)` says what stage `i` has lost."""
    leaves, tree = jax.tree.flatten(model)
    others = jax.tree.leaves(random)
    shapes, other_shapes = [jnp.shape(x) for x in leaves], [jnp.shape(x) for x in others]
    if len(leaves) != len(others) or shapes != other_shapes:
        raise ValueError(
            "random must be a model of the same shape: its parameters have shapes "
            f"{other_shapes}, those of the model {shapes}"
        )
    places = _places(_paths(model), leaves, layers)

    def stage(i):
        pairs = zip(places, leaves, others, strict=True)
        drawn = [x if at is None else jnp.where(lost(at, i), y, x) for at, x, y in pairs]
        return explain(tree.unflatten(drawn), images, targets)

    maps = lax.map(stage, jnp.arange(len(layers) + 1))
    return Randomisation(maps, similarity(maps, maps[:1]))


def _places(names: Sequence[str], leaves: Sequence[Any], layers: Sequence[str]) -> list[int | None]:
    """Returns the place in `layers` of every parameter, `None` for those of no layer."""
    places: list[int | None] = [None] * len(names)
    for place, layer in enumerate(layers):
        within = [
            i
            for i, name in enumerate(names)
            if f"{name}.".startswith(f"{layer}.") and _is_parameter(leaves[i])
        ]
        if not within or any(places[i] is not None for i in within):
            fault = "named twice" if within else "without parameters"
            raise ValueError(f"layer {layer!r} is {fault}; parameters of the model: {names}")
        for i in within:
            places[i] = place
    return places


def _paths(model: Any) -> list[str]:
    """Returns the path of every leaf, dotted, without the `value` of Flax's variables."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(model)[0]]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    return [
        name.removesuffix(".value") if path and getattr(path[-1], "name", "") == "value" else name
        for name, path in zip(names, paths, strict=True)
    ]


def _is_parameter(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)
