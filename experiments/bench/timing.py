"""Functions timed in turn, so that their ratios stand on a machine with other work."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax


@dataclasses.dataclass
class Timed:
    """A compiled function and what it took.

    Attributes:
      run: One call.
      compile_seconds: What the first call took.
      temporary_mib: Temporaries and outputs of one call, by XLA's buffer assignment.
      seconds: What each call since took.
    """

    run: Callable[[], Any]
    compile_seconds: float
    temporary_mib: float
    seconds: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def timed(function: Any, *arguments: Any) -> Timed:
    """Compiles what `jax.jit` or `jaxground.prepare` returned, for these arguments."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    spent = time.perf_counter() - start
    return Timed(lambda: function(*arguments), spent, memory(function, *arguments))


def memory(function: Any, *arguments: Any) -> float:
    """Returns the MiB of temporaries and outputs of one call, by XLA's buffer assignment."""
    found = function.lower(*arguments).compile().memory_analysis()
    return (found.temp_size_in_bytes + found.output_size_in_bytes) / 2**20


def interleave(functions: Sequence[Timed], repeats: int) -> None:
    """Times one call of each function in every round."""
    for _ in range(repeats):
        for function in functions:
            start = time.perf_counter()
            jax.block_until_ready(function.run())
            function.seconds.append(time.perf_counter() - start)
