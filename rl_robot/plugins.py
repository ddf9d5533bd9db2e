"""Classes that users bring along, named as ``module:Class``."""

from importlib import import_module
from typing import Any

from rl_robot.errors import UserError


def make_own(what: str, name: str, *arguments: object) -> Any:
    """Return an instance of the user's class ``name``, called with ``arguments``.

    ``what`` it should be, such as "task", is for messages.

    Raises:
        UserError: no such module or class, or it can't be made from these arguments.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)(*arguments)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{what} {name!r} can't be loaded: there is no module {error.name!r}: is the folder "
            "that holds it in PYTHONPATH?"
        ) from error
    except (ImportError, AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise UserError(
            f"{what} {name!r} can't be loaded ({type(error).__name__}): {error}"
        ) from error
