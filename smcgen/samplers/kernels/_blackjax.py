"""blackjax, imported when a kernel of its first runs."""

from typing import Any

from smcgen.errors import MissingExtra


def blackjax() -> Any:
    """The package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import blackjax
        import blackjax.mcmc
    except ImportError as error:
        raise MissingExtra("this MCMC kernel", "blackjax", "samplers") from error
    return blackjax
