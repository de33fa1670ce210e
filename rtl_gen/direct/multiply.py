"""Multiplication and carry-save addition: Booth rows, full adders, sums of products.

Radix-4 Booth recoding turns a factor of n bits into ceil(n/2) digits in {-2, -1, 0, 1, 2}; each
digit makes one row of the other factor's width plus one. Rows of any number of products are
compressed by full adders, as Dadda did it, to two; one carry-propagate adder follows. So a dot
product pays for carry propagation once, and a factor that several products share is recoded once.

No sign is extended: a row's sign bit is inverted and the constant that this adds is taken off once
per sum, see `rows_bias`.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from rtl_gen.units.unit import Unit, VerilogTarget

__all__ = [
    "DotProduct",
    "FullAdder",
    "OperatorDotProduct",
    "add_rows",
    "booth_digits",
    "booth_rows",
    "compress",
    "compress_to",
    "cuts_suffix",
    "dadda_heights",
    "digit_bits",
    "digit_lines",
    "n_digits",
    "product_sum_bits",
    "recode",
    "register_bits",
    "rows_bias",
]

_FULL_ADDER = "halut_full_adder"
_DIGIT_LINES = 3  # negative, one, two


def n_digits(bits: int) -> int:
    """Booth digits of a signed factor of `bits` bits."""
    return -(-bits // 2)


def digit_bits(bits: int) -> int:
    """Lines that carry the Booth digits of a signed factor of `bits` bits."""
    return _DIGIT_LINES * n_digits(bits)


def booth_digits(value: int, bits: int) -> list[int]:
    """Booth digits of a signed integer, least significant first.

    Examples
    --------
    >>> booth_digits(-128, 8), booth_digits(127, 8), booth_digits(6, 4)
    ([0, 0, 0, -2], [-1, 0, 0, 2], [-2, 2])
    """

    def bit(i: int) -> int:
        return value >> min(i, bits - 1) & 1 if i >= 0 else 0

    return [bit(2 * j - 1) + bit(2 * j) - 2 * bit(2 * j + 1) for j in range(n_digits(bits))]


def digit_lines(value: int, bits: int) -> int:
    """Booth digits of a signed integer as `recode` codes them in hardware.

    Examples
    --------
    >>> f"{digit_lines(6, 4):06b}"
    '100101'
    """
    lines = 0
    for j, digit in enumerate(booth_digits(value, bits)):
        code = int(digit < 0) | int(abs(digit) == 1) << 1 | int(abs(digit) == 2) << 2
        lines |= code << (_DIGIT_LINES * j)
    return lines


def product_sum_bits(first_bits: int, second_bits: int, n_products: int) -> int:
    """Bits that hold every sum of `n_products` products of two signed factors.

    The largest product is (-2**(a-1)) * (-2**(b-1)) = 2**(a+b-2), so that n of them need
    a + b + ceil(log2 n) bits.
    """
    return first_bits + second_bits + (n_products - 1).bit_length()


def rows_bias(multiplicand_bits: int, multiplier_bits: int) -> int:
    """What the rows of one product add up to beyond the product.

    Every row has its sign bit, of weight -2**(b + 2j), inverted and counted as positive.
    """
    return sum(1 << (multiplicand_bits + 2 * j) for j in range(n_digits(multiplier_bits)))


def recode(value: Value) -> Value:
    """Booth digits of a signed value as lines: per digit negative, one (|d| = 1), two (|d| = 2).

    Zero is never negative, so that its row stands still.
    """
    bits = [*value, value[-1]]
    lines: list[Value] = []
    for j in range(n_digits(len(value))):
        low = bits[2 * j - 1] if j else Const(0, 1)
        middle, high = bits[2 * j], bits[2 * j + 1]
        one = middle ^ low
        lines += [high & ~(middle & low), one, (high ^ middle) & ~one]
    return Cat(lines)


def booth_rows(m: Module, name: str, multiplicand: Value, digits: Value) -> list[list[Value]]:
    """Bits of a product by their weight: entry i lists the bits of weight 2**i.

    Their sum is ``multiplicand * digits + rows_bias``.

    Parameters
    ----------
    multiplicand : Value
        Signed, b bits.
    digits : Value
        As `recode` returns them.
    """
    width = len(multiplicand) + 1
    single = Cat(multiplicand, multiplicand[-1])
    double = Cat(Const(0, 1), multiplicand)
    count = len(digits) // _DIGIT_LINES
    columns: list[list[Value]] = [[] for _ in range(width + 2 * (count - 1))]
    for j in range(count):
        negative, one, two = digits[_DIGIT_LINES * j : _DIGIT_LINES * (j + 1)]
        row = Signal(width, name=f"{name}_row{j}")
        magnitude = (single & one.replicate(width)) | (double & two.replicate(width))
        m.d.comb += row.eq(magnitude ^ negative.replicate(width) ^ (1 << (width - 1)))
        for i in range(width):
            columns[2 * j + i].append(row[i])
        columns[2 * j].append(negative)
    return columns


class FullAdder(Unit):
    """Full adder of one bit; a synthesis flow may map it to the library's cell.

    Members
    -------
    a, b, c : In(1)
    carry, sum : Out(1)
        ``a + b + c = 2 * carry + sum``.

    Timing
    ------
    Combinational.
    """

    def __init__(self) -> None:
        super().__init__(
            {"a": In(1), "b": In(1), "c": In(1), "carry": Out(1), "sum": Out(1)},
            module_name=_FULL_ADDER,
            has_clock=False,
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        m.d.comb += Cat(self.sum, self.carry).eq(self.a + self.b + self.c)


def _add_bits(m: Module, platform: object, name: str, bits: Sequence[Value]) -> tuple[Value, Value]:
    """(sum, carry) of two or three bits; the first may be a constant 1."""
    total = Signal(name=f"{name}_sum")
    carry = Signal(name=f"{name}_carry")
    if isinstance(bits[0], Const):
        a, b = (bits[1], bits[1]) if len(bits) == 2 else bits[1:]
        m.d.comb += [total.eq(~(a ^ b) if len(bits) == 3 else ~a), carry.eq(a | b)]
    elif len(bits) == 2:
        m.d.comb += [total.eq(bits[0] ^ bits[1]), carry.eq(bits[0] & bits[1])]
    elif isinstance(platform, VerilogTarget):
        if _FULL_ADDER not in platform.units:
            platform.require(FullAdder())
        inputs = {f"i_{port}": bit for port, bit in zip("abc", bits, strict=True)}
        m.submodules[name] = Instance(_FULL_ADDER, **inputs, o_carry=carry, o_sum=total)
    else:
        m.d.comb += Cat(total, carry).eq(bits[0] + bits[1] + bits[2])
    return total, carry


def dadda_heights(height: int) -> list[int]:
    """Heights that a column of `height` bits goes through on its way to 2, largest first.

    Examples
    --------
    >>> dadda_heights(10), dadda_heights(2)
    ([9, 6, 4, 3, 2], [])
    """
    heights = [2]
    while heights[-1] * 3 // 2 < height:
        heights.append(heights[-1] * 3 // 2)
    return heights[::-1] if height > 2 else []


def compress(
    m: Module, platform: object, name: str, columns: Sequence[Sequence[Value]], height: int
) -> list[list[Value]]:
    """One level of full (and a few half) adders: no column is higher than `height` afterwards.

    Parameters
    ----------
    columns : sequence of sequences of 1-bit values
        Entry i lists the bits of weight 2**i; not higher than 3/2 * `height`. Carries out of the
        last column are dropped. The first bit of a column may be a constant 1.

    Returns
    -------
    list of list of Value
        As many columns, of the same sum.
    """
    result: list[list[Value]] = []
    carries: list[Value] = []
    for weight, column in enumerate(columns):
        waiting, carry_in = list(column), carries
        done: list[Value] = []
        carries = []
        while (excess := len(waiting) + len(done) + len(carry_in) - height) > 0:
            label = f"{name}_w{weight}_{len(carries)}"
            n_bits = min(excess + 1, 3)
            total, carry = _add_bits(m, platform, label, waiting[:n_bits])
            del waiting[:n_bits]
            done.append(total)
            carries.append(carry)
        # What has waited longest is taken first at the next level.
        result.append([*waiting, *carry_in, *done])
    return result


def compress_to(
    m: Module, platform: object, name: str, columns: Sequence[Sequence[Value]], height: int
) -> list[list[Value]]:
    """As many levels of `compress` as it takes until no column is higher than `height`."""
    result = [list(column) for column in columns]
    for level, following in enumerate(dadda_heights(max(map(len, columns)))):
        if max(map(len, result)) <= height:
            break
        result = compress(m, platform, f"{name}_level{level}", result, following)
    return result


def register_bits(
    m: Module, name: str, columns: Sequence[Sequence[Value]], enable: Value
) -> list[list[Value]]:
    """Register every bit that is not constant."""
    bits = Cat(bit for column in columns for bit in column if not isinstance(bit, Const))
    register = Signal(len(bits), name=name, reset_less=True)
    with m.If(enable):
        m.d.sync += register.eq(bits)
    left = iter(register)
    return [[bit if isinstance(bit, Const) else next(left) for bit in column] for column in columns]


def add_rows(columns: Sequence[Sequence[Value]]) -> Value:
    """The sum of columns of at most two bits: one carry-propagate adder."""
    first, second = (
        Cat(column[i] if i < len(column) else Const(0, 1) for column in columns) for i in range(2)
    )
    return first + second


def cuts_suffix(cuts: Sequence[int]) -> str:
    """Part of a module's name that tells the pipeline cuts."""
    return "".join(f"_cut{cut}" for cut in cuts)


class DotProduct(Unit):
    """Sum of `length` products per step, added to an accumulator.

    Parameters
    ----------
    length : int
        Products per step, at least 1.
    multiplicand_bits, multiplier_bits : int
        Widths of the signed factors; the multiplier comes recoded.
    acc_bits : int
        Width of the accumulator. It wraps around.
    cuts : tuple of int
        Pipeline registers inside the compression, one set per entry: as soon as no column is
        higher than it. Decreasing, 2 at least.

    Members
    -------
    multiplicands : In(ArrayLayout(multiplicand_bits, length))
        Signed.
    digits : In(ArrayLayout(3 * ceil(multiplier_bits / 2), length))
        Multipliers, see `recode`.
    enable : In(stages)
        Bit s: the registers of stage s load; stages = len(cuts) + 1, the last is the accumulator.
    first : In(1)
        With the last enable: a new sum is begun.
    sum : Out(acc_bits)
        The accumulator.

    Timing
    ------
    `stages` clock edges from factors to the sum that they are part of; one step per cycle.
    """

    def __init__(
        self,
        *,
        length: int,
        multiplicand_bits: int,
        multiplier_bits: int,
        acc_bits: int,
        cuts: tuple[int, ...],
    ) -> None:
        self.length = length
        self.multiplicand_bits = multiplicand_bits
        self.multiplier_bits = multiplier_bits
        self.acc_bits = acc_bits
        self.cuts = cuts
        self.stages = len(cuts) + 1
        digits = digit_bits(multiplier_bits)
        super().__init__(
            {
                "multiplicands": In(data.ArrayLayout(unsigned(multiplicand_bits), length)),
                "digits": In(data.ArrayLayout(unsigned(digits), length)),
                "enable": In(self.stages),
                "first": In(1),
                "sum": Out(acc_bits),
            },
            module_name=f"halut_dot_product_n{length}_x{multiplicand_bits}_y{multiplier_bits}"
            f"_acc{acc_bits}{cuts_suffix(cuts)}",
        )

    def build(self, m: Module, platform: object) -> None:
        accumulator = Signal(self.acc_bits, name="accumulator", reset_less=True)
        base = Signal(self.acc_bits, name="base")
        m.d.comb += [
            base.eq(accumulator & (~self.first).replicate(self.acc_bits)),
            self.sum.eq(accumulator),
        ]
        bias = self.length * rows_bias(self.multiplicand_bits, self.multiplier_bits)
        columns: list[list[Value]] = [
            [Const(1, 1)] if -bias >> i & 1 else [] for i in range(self.acc_bits)
        ]
        for k in range(self.length):
            rows = booth_rows(m, f"product{k}", self.multiplicands[k], self.digits[k])
            for weight, bits in enumerate(rows[: self.acc_bits]):
                columns[weight] += bits
        for stage, cut in enumerate(self.cuts):
            columns = compress_to(m, platform, f"stage{stage}", columns, cut)
            columns = register_bits(m, f"stage{stage}_bits", columns, self.enable[stage])
        for weight, bit in enumerate(base):
            columns[weight].append(bit)
        with m.If(self.enable[-1]):
            m.d.sync += accumulator.eq(add_rows(compress_to(m, platform, "last", columns, 2)))


class OperatorDotProduct(Unit):
    """As `DotProduct` without cuts, written with ``*`` and ``+``: synthesis chooses how.

    Parameters
    ----------
    length, multiplicand_bits, multiplier_bits, acc_bits : int
        See `DotProduct`.

    Members
    -------
    multiplicands, enable, first, sum
        See `DotProduct`; one stage.
    multipliers : In(ArrayLayout(multiplier_bits, length))
        Signed.

    Timing
    ------
    One clock edge from factors to the sum that they are part of; one step per cycle.
    """

    def __init__(
        self, *, length: int, multiplicand_bits: int, multiplier_bits: int, acc_bits: int
    ) -> None:
        self.length = length
        self.acc_bits = acc_bits
        super().__init__(
            {
                "multiplicands": In(data.ArrayLayout(signed(multiplicand_bits), length)),
                "multipliers": In(data.ArrayLayout(signed(multiplier_bits), length)),
                "enable": In(1),
                "first": In(1),
                "sum": Out(acc_bits),
            },
            module_name=f"halut_operator_dot_product_n{length}_x{multiplicand_bits}"
            f"_y{multiplier_bits}_acc{acc_bits}",
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        accumulator = Signal(signed(self.acc_bits), name="accumulator", reset_less=True)
        total: Value = accumulator & (~self.first).replicate(self.acc_bits).as_signed()
        for k in range(self.length):
            total = total + self.multiplicands[k] * self.multipliers[k]
        m.d.comb += self.sum.eq(accumulator)
        with m.If(self.enable):
            m.d.sync += accumulator.eq(total)
