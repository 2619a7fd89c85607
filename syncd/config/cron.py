"""Five-field cron expressions with the meaning that crontab(5) gives them."""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import TYPE_CHECKING

from syncd.config.values import shown
from syncd.core.named import NamedTuple

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY_PART = re.compile(r"([0-7])(?:-([0-7]))?(?:/(\d+))?", re.ASCII)
_FIELDS = ("minute", "hour", "day", "month", "day_of_week")


class Cron(NamedTuple):
    """A valid cron expression."""

    expression: str

    def trigger(self, zone: tzinfo | None = None) -> BaseTrigger:
        """Return the APScheduler trigger of this expression.

        Two meanings of crontab(5) that APScheduler's own from_crontab lacks: 0 and 7 are Sunday (there 0 is Monday),
        and where both day of month and day of week are restricted, either one is enough.
        Raises: ValueError when the expression is not valid.
        """
        from apscheduler.triggers.combining import OrTrigger  # start-up time
        from apscheduler.triggers.cron import CronTrigger

        fields = dict(zip(_FIELDS, self.expression.lower().split(), strict=True))
        fields["day_of_week"] = ",".join(_day(part) for part in fields["day_of_week"].split(","))
        if fields["day"].startswith("*") or fields["day_of_week"].startswith("*"):
            return CronTrigger(timezone=zone, **fields)
        by_date, by_weekday = {**fields, "day_of_week": "*"}, {**fields, "day": "*"}
        return OrTrigger([CronTrigger(timezone=zone, **by_date), CronTrigger(timezone=zone, **by_weekday)])


def cron(value: object) -> Cron:
    """Return a valid cron expression. Raises ValueError that says how to write one."""
    if isinstance(value, str) and len(value.split()) == len(_FIELDS):
        found = Cron(" ".join(value.split()))
        try:
            found.trigger()
        except (ValueError, KeyError):
            pass
        else:
            return found
    raise ValueError(
        f'{shown(value)} is not a cron expression; write minute hour day month weekday, like "*/10 * * * *"'
    )


def _day(part: str) -> str:
    """Return one part of the weekday field with names for its numbers."""
    match = _DAY_PART.fullmatch(part)
    if not match:
        return part
    first, last, step = int(match[1]), match[2], int(match[3] or 1)
    if last is None:
        if match[3] is not None:
            raise ValueError("a step needs a range")
        return _DAYS[first % 7]
    if first > int(last) or step < 1:
        raise ValueError("not a range")
    return ",".join(_DAYS[day % 7] for day in range(first, int(last) + 1, step))
