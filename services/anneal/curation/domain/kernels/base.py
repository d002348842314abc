"""How kernels are compiled, and the operations that numba does not offer.

numba notices a change in the file of a kernel, not in what the kernel calls from elsewhere. So every module holds its
own helpers; whoever changes this one removes the cached kernels (`*.nbi`, `*.nbc`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

# Arrays that a kernel reads: any contiguous array is one, writable or not.
U8 = types.Array(types.uint8, 1, "C", readonly=True)
U16_2D = types.Array(types.uint16, 2, "C", readonly=True)
U32 = types.Array(types.uint32, 1, "C", readonly=True)
U64 = types.Array(types.uint64, 1, "C", readonly=True)
I64 = types.Array(types.int64, 1, "C", readonly=True)
I64_2D = types.Array(types.int64, 2, "C", readonly=True)
F64 = types.Array(types.float64, 1, "C", readonly=True)
INT = types.int64
UINT = types.uint64
FLOAT = types.float64

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


def kernel(*arguments: Any) -> Callable[[F], F]:
    """Compile a function for arguments of these types when it is first called; what is compiled outlives the process.

    A kernel runs without the interpreter's lock. It is compiled once, however many threads call it first.
    """

    def lazily(function: F) -> F:
        lock = Lock()
        made: list[Callable[..., Any]] = []

        @wraps(function)
        def call(*given: Any) -> Any:
            if not made:
                with lock:
                    if not made:
                        made.append(_compiled(function, arguments))
            return made[0](*given)

        return cast(F, call)

    return lazily


def _compiled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    try:
        made: Callable[..., Any] = njit(arguments, cache=True, nogil=True)(function)
    except RuntimeError:
        # No folder for the cache can be written: every process compiles for itself.
        made = njit(arguments, nogil=True)(function)
    return made


def helper(function: F) -> F:
    """Let kernels of the same module call a function."""
    made: F = njit(nogil=True)(function)
    return made


@intrinsic  # type: ignore[untyped-decorator]
def load8(_context: Any, octets: Any, _at: Any) -> Any:
    """The eight bytes from a place on as one little-endian number; the caller sees to it that they exist."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        number = context.get_value_type(types.uint64)
        place = builder.bitcast(builder.gep(array.data, [args[1]]), number.as_pointer())
        loaded = builder.load(place)
        loaded.align = 1
        return loaded

    return types.uint64(octets, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def store8(_context: Any, octets: Any, _at: Any, _value: Any) -> Any:
    """Write eight bytes at a place, as one little-endian number; the caller sees to it that they exist."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        number = context.get_value_type(types.uint64)
        place = builder.bitcast(builder.gep(array.data, [args[1]]), number.as_pointer())
        builder.store(args[2], place).align = 1
        return context.get_dummy_value()

    return types.void(octets, types.int64, types.uint64), code


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(_context: Any, _bits: Any) -> Any:
    """How many zeros stand below the lowest one of a number that is not 0."""

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.true_bit)

    return types.int64(types.uint64), code


@helper
def mixed(value: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a bijection of 64 bits."""
    value = (value ^ (value >> _30)) * _MIX_1
    value = (value ^ (value >> _27)) * _MIX_2
    return value ^ (value >> _31)
