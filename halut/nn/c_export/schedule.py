"""Where values lie: a buffer for each as long as it is read, memory used again afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field

from halut.nn.c_export.steps import Add, Affine, Clamp, LookUp, Network, Product, Step, Value

__all__ = ["Buffer", "Schedule", "schedule"]

_WORD = 4  # bytes: every buffer begins at a multiple


@dataclass(eq=False)
class Buffer:
    """A piece of the workspace, or the caller's memory.

    Attributes
    ----------
    n_bytes : int
    first, last : int
        Steps between which it must stay, both included.
    offset : int
        Bytes from the beginning of the workspace on.
    caller : str
        "input" or "output" where it is the caller's memory, else empty.
    """

    n_bytes: int
    first: int
    last: int
    offset: int = 0
    caller: str = ""


@dataclass(eq=False)
class Schedule:
    """Buffers of a network.

    Attributes
    ----------
    values : dict of int to Buffer
        By ``id(value.memory)``.
    scratch : dict of int to Buffer
        By ``id(step)``: memory that a step needs while it runs.
    n_bytes : int
        Size of the workspace: the peak of all buffers.
    """

    values: dict[int, Buffer] = field(default_factory=dict)
    scratch: dict[int, Buffer] = field(default_factory=dict)
    n_bytes: int = 0

    def buffer(self, value: Value) -> Buffer:
        """Return the buffer of a value."""
        return self.values[id(value.memory)]


def scratch_bytes(step: Step) -> int:
    """Return how much memory a step needs while it runs."""
    if isinstance(step, LookUp):
        return 4 * step.table.shape[1]
    if isinstance(step, Product):
        whole = step.window.kernel == (1, 1) and step.weights.shape[0] == 1
        # Padding a single pixel means gathering it.
        if whole and step.window.padding == (0, 0):
            return 0
        return step.weights.shape[2] * (4 if step.inputs[0].kind == "f32" else 1)
    return 0


def schedule(network: Network) -> Schedule:
    """Give every value and every step's scratch a place.

    Steps that work value by value write where they read when nobody else reads that later.
    """
    plan = Schedule()
    plan.values[id(network.input)] = Buffer(network.input.n_bytes, 0, 0, caller="input")
    buffers: list[Buffer] = []
    for index, step in enumerate(network.steps):
        shared = None
        for value in step.inputs:
            buffer = plan.buffer(value)
            buffer.last = index
            later = any(one in network.readers(value) for one in network.steps[index + 1 :])
            same_size = value.n_bytes == step.output.n_bytes
            in_place = isinstance(step, (Affine, Clamp, Add)) and same_size
            if in_place and not later and not buffer.caller:
                shared = buffer
        if shared is None:
            shared = Buffer(step.output.n_bytes, index, index)
            buffers.append(shared)
        shared.last = index
        plan.values[id(step.output.memory)] = shared
        if scratch_bytes(step):
            plan.scratch[id(step)] = Buffer(scratch_bytes(step), index, index)
            buffers.append(plan.scratch[id(step)])
    plan.buffer(network.output).caller = "output"
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda one: (-one.n_bytes, one.first)):
        if buffer.caller:
            continue
        buffer.offset = _lowest_place(buffer, placed)
        placed.append(buffer)
        plan.n_bytes = max(plan.n_bytes, buffer.offset + _whole_words(buffer.n_bytes))
    return plan


def _whole_words(n_bytes: int) -> int:
    return -(-n_bytes // _WORD) * _WORD


def _lowest_place(buffer: Buffer, placed: list[Buffer]) -> int:
    """Return the lowest offset at which a buffer meets none that lives at the same time."""
    offset = 0
    for other in sorted(placed, key=lambda one: one.offset):
        if other.last < buffer.first or buffer.last < other.first:
            continue
        if offset + buffer.n_bytes <= other.offset:
            break
        offset = max(offset, other.offset + _whole_words(other.n_bytes))
    return offset
