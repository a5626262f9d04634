"""Which table of a composite is in force at which step."""

from collections.abc import Sequence

from jaxground.core.names import find, slot_of
from jaxground.core.program import Program, Step
from jaxground.core.tables import Composite, Rules


def assign(program: Program, rules: Rules | Composite) -> Program:
    """Returns the program with the table of its region at every step.

    Raises:
      KeyError: The composite names a tap that is not there; the message lists those that are.
    """
    if isinstance(rules, Rules):
        return program
    wanted = {slot_of(program, name): table for name, table in rules.below.items()}
    regions = {}
    for slot in find(program).values():  # in the order of evaluation
        if slot in wanted:
            regions.update({s: wanted[slot] for s in program.ancestors(slot) - regions.keys()})

    def assigned(steps: Sequence[Step]) -> tuple[Step, ...]:
        return tuple(
            step._replace(
                rules=next((regions[s] for s in step.outputs if s in regions), rules.above),
                body=assigned(step.body),
            )
            for step in steps
        )

    return program._replace(steps=assigned(program.steps))
