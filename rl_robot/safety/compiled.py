"""Loops over numbers, compiled by Numba: what a filter does for each command in under 1 ms."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(signature: object) -> Callable[[Function], Function]:
    """Compile a function when its module is imported, for the types of ``signature`` and no others.

    So nothing is ever compiled while a robot moves; other types raise a TypeError. The result is
    kept beside the function's file, or in the user's cache where that is not writable.
    """
    return cast(Callable[[Function], Function], njit([signature], cache=True))


def inlined(function: Function) -> Function:
    """Compile a function for use in compiled ones, whose types it takes."""
    return cast(Function, njit(cache=True)(function))
