"""Where the dual unit of contrastive grounding starts: at the last weighted linear maps."""

from collections.abc import Sequence

from jaxground.core.program import Program, describe
from jaxground.core.rules import Rule, dual
from jaxground.core.tables import LINEAR_MAPS
from jaxground.core.transform import RESHAPING


def with_dual(program: Program, sources: Sequence[int]) -> tuple[Program, dict[int, Rule]]:
    """Returns the program with its outputs twice, and the rules that make the copies the dual's.

    What follows the last weighted linear maps is copied, the maps with it. All else is shared: one
    backward pass serves both, and the prior of each is the other's to leave out, or to negate.

    Args:
      program: Any program.
      sources: The slots that are grounded.

    Raises:
      ValueError: There is no such map, or a sum of several, or a loop comes first.
    """
    maps = _last_linear_maps(program, sources)
    copied = program.dependents([*maps])
    offset = 1 + max(program.shapes)
    copies = {slot: slot + offset for slot in copied}
    again = [s.renamed(copies) for s in program.steps if not copied.isdisjoint(s.outputs)]
    doubled = program._replace(
        outputs=(*program.outputs, *(copies.get(s, s) for s in program.outputs)),
        steps=(*program.steps, *again),
        shapes={**program.shapes, **{copies[s]: program.shapes[s] for s in copied}},
    )
    return doubled, {copies[slot]: dual(rule) for slot, rule in maps.items()}


def _last_linear_maps(program: Program, sources: Sequence[int]) -> dict[int, Rule]:
    """Returns the rules of the weighted linear maps nearest the output, by their output slots.

    Found by walking back from the output over everything else: biases, activations, pooling.
    """
    active = program.dependents(sources)
    writer = {slot: step for step in program.walk() for slot in step.outputs}

    def is_linear(slot):
        step = writer.get(slot)
        signals = [s for s in step.inputs if s in active] if step else []
        if step is None or len(signals) != 1 or step.key in LINEAR_MAPS:
            return len(signals) == 1
        return step.key in (*RESHAPING, "add", "sub") and is_linear(signals[0])

    found: dict[int, Rule] = {}
    visited: set[int] = set()
    pending = [s for s in program.outputs if s in active]
    while pending:
        slot = pending.pop()
        step = writer.get(slot)
        if slot in visited or step is None:
            continue
        visited.add(slot)
        signals = [s for s in step.inputs if s in active]
        if step.key in ("add", "add_any", "sub") and sum(map(is_linear, signals)) > 1:
            raise ValueError(
                "contrastive grounding found a sum of two linear maps at the output: "
                f"{describe(step.equation)}. It is one linear map, whose dual shares otherwise "
                "between the two; write it as one, of the concatenated inputs."
            )
        if step.key in LINEAR_MAPS and len(signals) == 1:
            found[step.outputs[0]] = step.rule
        elif step.key in ("scan", "cond", "while"):
            raise ValueError(
                "contrastive grounding found a loop before any weighted linear map: "
                f"{describe(step.equation)}. Apply the classifier after the loop."
            )
        else:
            pending += signals
    if not found:
        raise ValueError(
            "contrastive grounding needs a weighted linear map (a dense layer or a convolution) "
            "between input and output, whose negated weights make the dual unit; there is none."
        )
    return found
