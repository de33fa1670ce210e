# amaranth: UnusedElaboratable=no
"""A front end for 3x3 convolutions: raw pixels in, an accelerator's input transfers out.

Two line buffers and a window of 3x3 pixels follow the image in raster order; the split dimensions
of every codebook are gathered from the window, or a codebook takes all nine values of its channel.
Stride 1, padding 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from halut.errors import HalutError
from halut.program import Program
from halut.windows import window_columns

from .config import canonical_hash, ceil_log2
from .settings import check_settings, setting
from .tiled import HalutTiled
from .tiled_config import AnyConfig, TiledConfig, config_from_dict
from .top import HalutMatmul
from .units.cells import equals, one_hot, one_hot_select
from .units.serializer import output_payload
from .units.unit import Unit, named

__all__ = ["GATHERS", "FrontEnd", "FrontEndConfig", "HalutConvolution", "gather_image"]

GATHERS = ("channel", "any")
TAPS = 9  # of a 3x3 kernel
MAX_SIDE = 1024
MAX_CHANNELS = 1024
_NONE = "no front end"


@dataclass(frozen=True, kw_only=True)
class FrontEndConfig:
    """Parameters of a front end.

    Parameters
    ----------
    accelerator : AcceleratorConfig or TiledConfig
        What it feeds. Its codebooks take windows of 9 words, or none.
    height, width : int
        Pixels of an image; 1 to 1024, and the accelerator's rows divide their product.
    channels : int
        Values of a pixel, the accelerator's input words; 1 to 1024.
    gather : {"channel", "any"}
        Where a codebook's split dimensions are: in its own channel (one codebook per channel), or
        anywhere in the window. Codebooks that take windows take their own channel's.

    Raises
    ------
    HalutError
        When a value breaks its rule.

    Examples
    --------
    >>> from rtl_gen.config import AcceleratorConfig
    >>> config = FrontEndConfig(
    ...     accelerator=AcceleratorConfig(n_codebooks=16), height=8, width=8, channels=16
    ... )
    >>> config.n_choices, config.address_bits
    (9, 6)
    """

    accelerator: AnyConfig
    height: int = setting(
        MISSING, "--height", "lines of an image, in pixels", derived=_NONE, within=(1, MAX_SIDE)
    )
    width: int = setting(
        MISSING, "--width", "pixels of a line", derived=_NONE, within=(1, MAX_SIDE)
    )
    channels: int = setting(
        MISSING, "--channels", "values of a pixel", derived=_NONE, within=(1, MAX_CHANNELS)
    )
    gather: str = setting(
        "channel", "--gather", "split dimensions of a codebook: in its own channel, or in any "
        "({})", choices=GATHERS,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        a = self.accelerator
        if a.terms > 1:
            raise HalutError(f"terms must be 1 behind a front end, not {a.terms}")
        if a.window not in (0, TAPS):
            raise HalutError(f"window must be 0 or {TAPS} behind a front end, not {a.window}")
        if a.window and self.gather != "channel":
            raise HalutError(f'gather must be "channel" for windows, not "{self.gather}"')
        if self.height * self.width % a.rows:
            raise HalutError(
                f"height * width must be a multiple of the accelerator's {a.rows} rows, "
                f"not {self.height * self.width}"
            )
        if self.gather == "channel" and self.channels != a.n_codebooks:
            raise HalutError(
                f"channels must be the accelerator's {a.n_codebooks} codebooks for gather "
                f'"channel", not {self.channels}'
            )

    @property
    def gathers(self) -> bool:
        """Whether it selects split dimensions, which are loaded."""
        return not self.accelerator.window

    @property
    def n_choices(self) -> int:
        """Values that a split dimension is one of: a channel's taps, or those of all channels."""
        return TAPS if self.gather == "channel" else TAPS * self.channels

    @property
    def address_fields(self) -> dict[str, tuple[int, int]]:
        """Fields of a program address: {field: (lowest bit, width)}."""
        level_bits = ceil_log2(self.accelerator.tree_depth)
        return {
            "level": (0, level_bits),
            "codebook": (level_bits, ceil_log2(self.accelerator.n_codebooks)),
        }

    @property
    def address_bits(self) -> int:
        """Width of the program port's address, at least 1."""
        return max(1, sum(self.address_fields["codebook"]))

    @property
    def data_bits(self) -> int:
        """Width of the program port's data."""
        return ceil_log2(self.n_choices)

    @property
    def pixel_bits(self) -> int:
        """Bits of a pixel: all of its channels."""
        return self.channels * self.accelerator.input_bits

    @property
    def image_cycles(self) -> int:
        """Cycles from one image to the next when nothing stalls.

        One per pixel and per place of padding on the right and below, and G per row group.
        """
        groups = self.height * self.width // self.accelerator.rows
        return (self.height + 1) * (self.width + 1) + groups * self.accelerator.n_groups

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON; the accelerator's below ``accelerator``."""
        names = ("height", "width", "channels", "gather")
        own = {name: getattr(self, name) for name in names}
        return {**own, "accelerator": self.accelerator.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrontEndConfig:
        """Build from what `to_dict` returned."""
        rest = dict(values)
        return cls(accelerator=config_from_dict(rest.pop("accelerator")), **rest)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the configuration as canonical JSON."""
        return canonical_hash(self.to_dict())

    @property
    def slug(self) -> str:
        """File-system name."""
        size = f"h{self.height}_w{self.width}_ch{self.channels}_{self.gather}"
        return f"front_end_{size}_{self.accelerator.slug}"


def gather_image(config: FrontEndConfig, program: Program) -> list[tuple[int, int]]:
    """Words to write over the front end's program port, (address, data), in any order.

    A feature of the program is channel * 9 + row * 3 + column of the kernel. As pixels come
    as input words, one word must mean the same in every split dimension, and 0 be the padding.
    There is nothing to write for codebooks that take windows.

    Raises
    ------
    HalutError
        When the program does not fit.
    """
    if program.signs is not None:
        raise HalutError("program must not compare sums behind a front end")
    window = config.accelerator.window
    if program.window != window:
        raise HalutError(f"program.window must be the accelerator's {window}, not {program.window}")
    if program.n_features != TAPS * config.channels:
        raise HalutError(
            f"program.n_features must be 9 * {config.channels} channels, not {program.n_features}"
        )
    for name in ("input_scale", "input_offset"):
        if len(np.unique(getattr(program, name))) > 1:
            raise HalutError(f"program.{name} must be the same everywhere for a front end")
    if program.input_words(np.zeros((1, program.n_features))).any():
        raise HalutError("program must have word 0 for the value 0, which padding is")
    if not config.gathers:
        if not np.array_equal(
            program.split_dims, window_columns(program.n_features, len(program.split_dims))
        ):
            raise HalutError("program.split_dims must be each codebook's own channel, in order")
        return []
    fields = config.address_fields
    image = []
    for (codebook, level), dim in np.ndenumerate(program.split_dims):
        channel, tap = divmod(int(dim), TAPS)
        if config.gather == "channel" and channel != codebook:
            raise HalutError(
                f"program.split_dims of codebook {codebook} must be in its own channel, "
                f"not in channel {channel}"
            )
        address = (codebook << fields["codebook"][0]) | (level << fields["level"][0])
        image.append((address, tap if config.gather == "channel" else int(dim)))
    return image


class FrontEnd(Unit):
    """Line buffers, window and gather of a 3x3 convolution.

    Parameters
    ----------
    config : FrontEndConfig

    Members
    -------
    i : In(stream.Signature(ArrayLayout(input_bits, channels)))
        Pixels in raster order, image after image.
    o : Out(stream.Signature(ArrayLayout(ArrayLayout(ArrayLayout(input_bits, T or 9), Q), P)))
        The accelerator's input stream; rows are pixels in raster order.
    program : In(stream.Signature(StructLayout(address, data)))
        Which of `n_choices` values a (codebook, level) takes, see `gather_image`. Taken between
        images only; while a word is offered no image begins. Absent for windows.

    Timing
    ------
    A row group's first transfer is offered in the cycle after the pixel, or padding, that
    completes it: the window's lower right corner. While transfers of a row group are offered no
    pixel is taken; an image takes `image_cycles`.
    """

    def __init__(self, config: FrontEndConfig) -> None:
        self.config = config
        a = config.accelerator
        words = data.ArrayLayout(unsigned(a.input_bits), a.n_values)
        lanes = data.ArrayLayout(words, a.parallel_codebooks)
        program = data.StructLayout({"address": config.address_bits, "data": config.data_bits})
        pixel = data.ArrayLayout(unsigned(a.input_bits), config.channels)
        members = {
            "i": In(stream.Signature(pixel)),
            "o": Out(stream.Signature(data.ArrayLayout(lanes, a.rows))),
        }
        if config.gathers:
            members["program"] = In(stream.Signature(program))
        super().__init__(members, module_name="halut_front_end", has_reset=True)

    def build(self, m: Module, platform: object) -> None:
        c, a = self.config, self.config.accelerator
        x = Signal(range(c.width + 1))
        y = Signal(range(c.height + 1))
        slot = Signal(range(a.rows))
        group = Signal(range(a.n_groups))
        sending = Signal()
        step = Signal()
        begins = named(m, "image_begins", equals(x, 0) & equals(y, 0))
        last_x = named(m, "last_x", equals(x, c.width))
        last_y = named(m, "last_y", equals(y, c.height))
        inside = named(m, "inside_image", ~last_x & ~last_y)
        # Nothing moves in reset: it would be lost.
        running = self.running(platform)
        takes_pixel: Value = running & inside & ~sending
        if c.gathers:
            m.d.comb += self.program.ready.eq(running & begins & ~sending)
            takes_pixel &= ~(begins & self.program.valid)
        m.d.comb += [
            self.i.ready.eq(takes_pixel),
            step.eq(Mux(inside, self.i.valid & self.i.ready, ~sending)),
            self.o.valid.eq(running & sending),
        ]
        with m.If(step):
            m.d.sync += x.eq(Mux(last_x, 0, x + 1))
            with m.If(last_x):
                m.d.sync += y.eq(Mux(last_y, 0, y + 1))
            with m.If(~equals(x, 0) & ~equals(y, 0)):
                full = named(m, "row_group_full", equals(slot, a.rows - 1))
                m.d.sync += [slot.eq(Mux(full, 0, slot + 1)), sending.eq(full)]
        last = named(m, "at_last_group", equals(group, a.n_groups - 1))
        with m.If(sending & self.o.ready):
            m.d.sync += [group.eq(Mux(last, 0, group + 1)), sending.eq(~last)]
        windows = self._windows(m, x=x, y=y, slot=slot, inside=inside, step=step)
        self._gather(m, windows, group)

    def _windows(
        self, m: Module, *, x: Signal, y: Signal, slot: Signal, inside: Signal, step: Signal
    ) -> list[list[Value]]:
        """Per row its window, 9 pixels; the last row's is the one that moves."""
        c = self.config
        bits = c.pixel_bits
        pixel = Signal(bits, name="pixel")
        m.d.comb += pixel.eq(self.i.payload.as_value() & inside.replicate(bits))
        in_line = named(m, "in_line", ~equals(x, c.width))
        above: list[Value] = []  # the same column, one line above and two
        write: Value = pixel
        for line in range(2):
            m.submodules[f"line{line}"] = memory = Memory(shape=bits, depth=c.width, init=[])
            read, port = memory.read_port(domain="comb"), memory.write_port()
            read.data.name = f"line{line}_word"
            stored = Signal(bits, name=f"line{line}_pixel")
            # At the right is padding; two lines above line 1, too.
            there = in_line if line == 0 else in_line & ~equals(y, 1)
            m.d.comb += [
                read.addr.eq(x),
                port.addr.eq(x),
                port.data.eq(write),
                port.en.eq(step & in_line),
                stored.eq(read.data & there.replicate(bits)),
            ]
            write = read.data
            above.append(stored)
        column = Cat(above[1], above[0], pixel)
        older = [Signal(3 * bits, name=f"column{k}", reset_less=True) for k in range(3)]
        with m.If(step):
            m.d.sync += [
                older[0].eq(older[1]),
                older[1].eq(older[2]),
                older[2].eq(column),
            ]
        moved = Cat(older[1], older[2], column)  # columns from left to right
        rows: list[Value] = []
        for row in range(c.accelerator.rows - 1):
            kept = Signal(len(moved), name=f"window{row}", reset_less=True)
            with m.If(step & equals(slot, row)):
                m.d.sync += kept.eq(moved)
            rows.append(kept)
        rows.append(Cat(older))
        places = [kx * 3 + ky for ky in range(3) for kx in range(3)]
        return [[row[p * bits : (p + 1) * bits] for p in places] for row in rows]

    def _gather(self, m: Module, windows: list[list[Value]], group: Signal) -> None:
        """Select the split dimensions, or the channels, of the codebooks of a group."""
        c, a = self.config, self.config.accelerator
        bits, lanes, depth = a.input_bits, a.parallel_codebooks, a.tree_depth
        choices = self._choices(m) if c.gathers else []
        groups = one_hot(m, "groups", group, a.n_groups)
        values = []
        for row, window in enumerate(windows):
            flat = Signal(TAPS * c.pixel_bits, name=f"row{row}_window")
            m.d.comb += flat.eq(Cat(window))
            # Feature channel * 9 + tap
            values.append(
                [
                    flat[tap * c.pixel_bits + channel * bits :][:bits]
                    for channel in range(c.channels)
                    for tap in range(TAPS)
                ]
            )
        for q in range(lanes):
            lines = []
            for level in range(depth if c.gathers else 0):
                words = [choices[g * lanes + q][level] for g in range(a.n_groups)]
                choice = Signal(c.data_bits, name=f"lane{q}_level{level}")
                m.d.comb += choice.eq(one_hot_select(groups, words))
                lines.append(one_hot(m, f"lane{q}_level{level}_lines", choice, c.n_choices))
            for row, features in enumerate(values):
                candidates: list[Value] = features
                if c.gather == "channel":
                    candidates = []
                    for tap in range(TAPS):
                        value = Signal(bits, name=f"row{row}_lane{q}_tap{tap}")
                        taps = [features[(g * lanes + q) * TAPS + tap] for g in range(a.n_groups)]
                        m.d.comb += value.eq(one_hot_select(groups, taps))
                        candidates.append(value)
                if not c.gathers:
                    m.d.comb += self.o.payload[row][q].as_value().eq(Cat(candidates))
                for level in range(len(lines)):
                    selected = one_hot_select(lines[level], candidates)
                    m.d.comb += self.o.payload[row][q][level].eq(selected)

    def _choices(self, m: Module) -> list[list[Value]]:
        """The stored choice of every codebook and level."""
        c = self.config
        accepted = named(m, "choice_accepted", self.program.valid & self.program.ready)
        address = self.program.payload.address
        parts = {}
        for name, (low, width) in c.address_fields.items():
            parts[name] = address[low : low + width]
        stored: list[list[Value]] = []
        for codebook in range(c.accelerator.n_codebooks):
            stored.append([])
            for level in range(c.accelerator.tree_depth):
                word = Signal(c.data_bits, name=f"choice{codebook}_{level}", reset_less=True)
                hit = equals(parts["codebook"], codebook) & equals(parts["level"], level)
                with m.If(accepted & hit):
                    m.d.sync += word.eq(self.program.payload.data)
                stored[-1].append(word)
        return stored


class HalutConvolution(Unit):
    """A front end and the accelerator that it feeds.

    Parameters
    ----------
    config : FrontEndConfig

    Members
    -------
    i, gather : In
        Pixels, and the front end's program, see `FrontEnd`; `gather` is absent for windows.
    o, program
        See `HalutMatmul`. Write both programs while no image is on its way.
    """

    def __init__(self, config: FrontEndConfig) -> None:
        self.config = config
        a = config.accelerator
        self.front = FrontEnd(config)
        program = data.StructLayout(
            {"address": a.program_address_bits, "data": a.program_data_bits}
        )
        members = {
            "i": self.front.signature.members["i"],
            "o": Out(stream.Signature(output_payload(a))),
            "program": In(stream.Signature(program)),
        }
        if config.gathers:
            members["gather"] = self.front.signature.members["program"]
        super().__init__(members, module_name="halut_convolution", has_reset=True)

    def build(self, m: Module, platform: object) -> None:
        a = self.config.accelerator
        core = HalutTiled(a) if isinstance(a, TiledConfig) else HalutMatmul(a)
        front = self.front
        self.add(m, "front_end", front, platform)
        self.add(m, "matmul", core, platform)
        streams = [(self.i, front.i), (front.o, core.i), (self.program, core.program)]
        if self.config.gathers:
            streams.append((self.gather, front.program))
        for source, sink in (*streams, (core.o, self.o)):
            m.d.comb += [
                Value.cast(sink.payload).eq(Value.cast(source.payload)),
                sink.valid.eq(source.valid),
                source.ready.eq(sink.ready),
            ]
