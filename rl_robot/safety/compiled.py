"""Loops over numbers, compiled by Numba: what a filter does for each command in under 1 ms."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(signature: object) -> Callable[[Function], Function]:
    """Compile a function when its module is imported, for the types of ``signature`` and no others.

    So nothing is ever compiled while a robot moves; other types raise a TypeError. The result is
    kept beside the function's file, or in the user's cache where that is not writable; where
    neither is, each process compiles for itself.
    """
    return lambda function: _compile(function, [signature])


def inlined(function: Function) -> Function:
    """Compile a function for use in compiled ones. It takes their types, so that it gives none."""
    return _compile(function, None)


def _compile(function: Function, signatures: Any) -> Function:
    try:
        return cast(Function, njit(signatures, cache=True)(function))
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return cast(Function, njit(signatures)(function))
