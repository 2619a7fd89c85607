"""Server paths -> verified local files: by the daemon, else the catalogue, else the manifest."""

from __future__ import annotations

import atexit

from worker_glue.resolver.resolver import Resolver

__all__ = ["Resolver", "default"]

_made: dict[str, Resolver] = {}


def default() -> Resolver:
    """Return the resolver of the module-level functions: configured by the environment and the configuration file."""
    made = _made.get("default")
    if made is None:
        made = _made.setdefault("default", Resolver())  # one call: threads get the same
        atexit.register(made.close)
    return made
