"""All commands in one class, for doctor and for tests; a command itself imports only the part it needs."""

from __future__ import annotations

from syncd.app.telling import Telling
from syncd.app.verifying import Verifying


class App(Verifying, Telling):
    """syncd on this machine, for one configuration."""
