"""Compiles expressions for RE2, quietly: what it cannot run is an error with a text, not words on the terminal."""

from typing import Any

import re2


class ExpressionError(ValueError):
    """What RE2 cannot run; the message is the expression and the reason."""


def compiled(expression: str) -> Any:
    """The expression, compiled.

    raises ExpressionError: RE2 cannot run it, whose time is linear in the text whatever the expression
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ExpressionError(f"{expression!r} is nothing RE2 can run: {said}") from error
