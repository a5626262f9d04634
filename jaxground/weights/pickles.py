"""A machine for the pickles inside torch checkpoints, on which nothing can run.

A pickle is a program for a stack machine. Python's machine imports and calls whatever the program
names, and subclassing it leaves doors open: attributes set on the permitted functions, hashes of
tuples nested so that they take forever, buffers allocated by their declared size. So this module
has its own machine. It knows the opcodes that `torch.save` emits for state dicts under the pickle
protocols 2 to 5, and builds `None`, booleans, numbers, texts, bytes, tuples, lists and dicts. What
the program names is looked up in a table given by the caller and never imported; what it calls is
a `Builder` of that table; and what nobody needs is one `PLACEHOLDER`.
"""

import pickle as opcodes  # only the names of the opcodes: nothing is ever unpickled
import struct
from collections.abc import Callable, Mapping
from typing import Any

from jaxground.weights.errors import WeightsError, shown
from jaxground.weights.inert import PLACEHOLDER, Placeholder, call, put_pairs

# ResNet-152's state dict takes 0.1 MB and 31,000 instructions, with Adam's state 75,000.
MAX_BYTES = 2**26
MAX_INSTRUCTIONS = 2**20


def load(
    data: Any,
    names: Mapping[tuple[str, str], Any],
    *,
    persistent: Callable[[Any], Any],
    start: int = 0,
) -> tuple[Any, int]:
    """Returns the value that the pickle at `data[start:]` describes, and where the pickle ends.

    Args:
      data: `bytes` or an `mmap`.
      names: What the program may name: `(module, name)` to the value to be pushed.
      persistent: From a persistent id, a value of the pickle, to the value it stands for.
      start: Offset of the first opcode.

    Raises:
      WeightsError: The pickle is malformed, too long, or names something outside `names`.

    Example:
      >>> import pickle
      >>> load(pickle.dumps({"epoch": 3, "loss": [0.5, None]}), {}, persistent=str)[0]
      {'epoch': 3, 'loss': [0.5, None]}
      >>> load(pickle.dumps(print), {}, persistent=str)  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      jaxground.weights.errors.WeightsError: the pickle names builtins.print, ...
    """
    machine = _Machine(data, names, persistent, start)
    for _ in range(MAX_INSTRUCTIONS):
        opcode = machine.take(1)
        if opcode == opcodes.STOP:
            return machine.pop(), machine.position
        machine.step(opcode)
    raise WeightsError(f"expected a pickle of at most {MAX_INSTRUCTIONS} instructions, found more")


class _Machine:
    """The stack, the marks on it, the memo, and the position in the program."""

    def __init__(self, data: Any, names: Mapping, persistent: Callable, start: int) -> None:
        self.data = data
        self.names = names
        self.persistent = persistent
        self.position = start
        self.end = min(len(data), start + MAX_BYTES)
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: bytes) -> None:
        """Executes one instruction."""
        if opcode in _NUMBERS:
            self.stack.append(self.number(_NUMBERS[opcode]))
        elif opcode in _STRINGS:
            layout, decode = _STRINGS[opcode]
            self.stack.append(decode(self, self.take(self.number(layout))))
        elif opcode in _PUT:
            self.memo[self.number(_PUT[opcode])] = self.top()
        elif opcode in _GET:
            index = self.number(_GET[opcode])
            if index not in self.memo:
                raise self.error(f"nothing was memoised under {index}")
            self.stack.append(self.memo[index])
        elif opcode in _STEPS:
            _STEPS[opcode](self)
        else:
            raise self.error(f"opcode {opcode!r} belongs to no state dict; nothing was executed")

    def error(self, found: str) -> WeightsError:
        return WeightsError(f"malformed pickle at byte {self.position}: {found}")

    def take(self, count: int) -> bytes:
        left = self.end - self.position
        if count > left:
            raise self.error(f"expected {count} more bytes, found {left} (truncated?)")
        self.position += count
        return self.data[self.position - count : self.position]

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.error(f"expected UTF-8, found {shown(raw)}") from None

    def line(self) -> str:
        stop = self.data.find(b"\n", self.position, min(self.end, self.position + 1024))
        if stop < 0:
            raise self.error("expected a name on a line of its own, found no end of line")
        return self.text(self.take(stop + 1 - self.position)[:-1])

    def top(self) -> Any:
        self.stack.append(self.pop())
        return self.stack[-1]

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.error("the stack is empty")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise self.error("there is no mark on the stack")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def memoise(self) -> None:
        self.memo[len(self.memo)] = self.top()

    def check_protocol(self) -> None:
        version = self.number("<B")
        if not 2 <= version <= 5:
            raise self.error(f"expected pickle protocol 2 to 5, found {version}")

    def push_tuple(self, length: int) -> None:
        items = [self.pop() for _ in range(length)]
        self.stack.append(tuple(reversed(items)))

    def put_items(self, items: list[Any]) -> None:
        """Gives keys and values in turn to the dict on top of the stack."""
        target = self.top()
        if len(items) % 2 or not isinstance(target, dict | Placeholder):
            raise self.error(f"expected pairs for a dict, found {len(items)} for {shown(target)}")
        if isinstance(target, dict):
            put_pairs(target, zip(items[::2], items[1::2], strict=True))

    def append_items(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list | Placeholder):
            raise self.error(f"expected a list to append to, found {shown(target)}")
        if isinstance(target, list):
            target.extend(items)

    def push_name(self, name: Any, module: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise self.error(f"expected names, found {shown(module)} and {shown(name)}")
        if (module, name) not in self.names:
            raise WeightsError(
                f"the pickle names {module[:80]}.{name[:80]}, which is no part of a state dict; "
                "nothing was executed (if you trust the file, load it in torch and save "
                "`model.state_dict()` alone)"
            )
        self.stack.append(self.names[module, name])

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(call(function, arguments))

    def build(self) -> None:
        """Drops the state of an instance, for ours have none."""
        self.pop()
        if not isinstance(self.top(), dict | Placeholder):
            raise self.error(f"expected an instance to give a state, found {shown(self.top())}")


# Layouts are those of `struct`. Protocol 2 is what torch writes unless asked otherwise.
_NUMBERS = {
    opcodes.BININT: "<i",
    opcodes.BININT1: "<B",
    opcodes.BININT2: "<H",
    opcodes.BINFLOAT: ">d",
}
_PUT = {opcodes.BINPUT: "<B", opcodes.LONG_BINPUT: "<I"}
_GET = {opcodes.BINGET: "<B", opcodes.LONG_BINGET: "<I"}
# The length's layout, and what the bytes mean. Texts from Python 2 are Latin-1: any byte is one.
_STRINGS: dict[bytes, tuple[str, Callable[[_Machine, bytes], Any]]] = {
    opcodes.LONG1: ("<B", lambda _, raw: int.from_bytes(raw, "little", signed=True)),
    opcodes.BINUNICODE: ("<I", _Machine.text),
    opcodes.SHORT_BINUNICODE: ("<B", _Machine.text),
    opcodes.BINUNICODE8: ("<Q", _Machine.text),
    opcodes.BINSTRING: ("<I", lambda _, raw: raw.decode("latin-1")),
    opcodes.SHORT_BINSTRING: ("<B", lambda _, raw: raw.decode("latin-1")),
    opcodes.BINBYTES: ("<I", lambda _, raw: raw),
    opcodes.SHORT_BINBYTES: ("<B", lambda _, raw: raw),
    opcodes.BINBYTES8: ("<Q", lambda _, raw: raw),
}
_STEPS: dict[bytes, Callable[[_Machine], Any]] = {
    opcodes.PROTO: _Machine.check_protocol,
    opcodes.FRAME: lambda m: m.take(8),  # a hint for readers of streams
    opcodes.NONE: lambda m: m.stack.append(None),
    opcodes.NEWTRUE: lambda m: m.stack.append(True),
    opcodes.NEWFALSE: lambda m: m.stack.append(False),
    opcodes.EMPTY_TUPLE: lambda m: m.stack.append(()),
    opcodes.EMPTY_LIST: lambda m: m.stack.append([]),
    opcodes.EMPTY_DICT: lambda m: m.stack.append({}),
    opcodes.EMPTY_SET: lambda m: m.stack.append(PLACEHOLDER),
    opcodes.MARK: lambda m: m.marks.append(len(m.stack)),
    opcodes.TUPLE: lambda m: m.stack.append(tuple(m.pop_to_mark())),
    opcodes.TUPLE1: lambda m: m.push_tuple(1),
    opcodes.TUPLE2: lambda m: m.push_tuple(2),
    opcodes.TUPLE3: lambda m: m.push_tuple(3),
    opcodes.SETITEM: lambda m: m.put_items([m.pop(), m.pop()][::-1]),
    opcodes.SETITEMS: lambda m: m.put_items(m.pop_to_mark()),
    opcodes.APPEND: lambda m: m.append_items([m.pop()]),
    opcodes.APPENDS: lambda m: m.append_items(m.pop_to_mark()),
    opcodes.ADDITEMS: lambda m: m.append_items(m.pop_to_mark()),
    opcodes.MEMOIZE: _Machine.memoise,
    opcodes.GLOBAL: lambda m: m.push_name(*(m.line(), m.line())[::-1]),
    opcodes.STACK_GLOBAL: lambda m: m.push_name(m.pop(), m.pop()),
    opcodes.REDUCE: _Machine.reduce,
    opcodes.NEWOBJ: _Machine.reduce,
    opcodes.BUILD: _Machine.build,
    opcodes.BINPERSID: lambda m: m.stack.append(m.persistent(m.pop())),
}
