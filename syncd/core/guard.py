"""What a scan's findings may do to the mirror without asking a person. Pure.

The rules are these (each refusal leaves what it is about untouched; new files are still fetched):
- an empty source, or one whose marker is missing, while files are held: nothing at all is done;
- with 10 or more files held, fewer than half of them listed: another share, nothing is fetched or retired;
- retires above max(5, min(1000, 10 % of held)), and never so many that nothing is left; replacements of more than half
  of what is held (with 10 or more).
"""

from __future__ import annotations

from syncd.core.named import NamedTuple
from syncd.core.shown import counted

FEW = 10


class Caps(NamedTuple):
    """max_retire: the configured fraction of held files, 0..1."""

    max_retire: float = 0.10

    def retires(self, held: int) -> int:
        """Return how many of `held` files may be retired in one run."""
        return max(5, min(1000, int(held * self.max_retire)))


class Census(NamedTuple):
    """What a finished scan counted, in files.

    listed: held files that were seen, or proven to be renamed. arriving: listed files that are not held (yet).
    """

    held: int
    listed: int
    arriving: int
    retires: int
    approved_retires: int
    replacements: int
    approved_replacements: int


class Verdict(NamedTuple):
    """What goes through. `message` is "" when nothing is held back."""

    retires: bool
    replacements: bool
    message: str = ""
    foreign: bool = False


def enough_listed(held: int, listed: int) -> bool:
    """Say whether enough held files were seen for this to be the share they came from."""
    return held < FEW or listed * 2 >= held


def judge(census: Census, caps: Caps) -> Verdict:
    """Decide on retires (flips among them) and replacements; approved ones go through whatever the caps say."""
    if not enough_listed(census.held, census.listed):
        return Verdict(
            retires=False,
            replacements=False,
            foreign=True,
            message=f"this looks like another share: only {census.listed} of {census.held} files held are on it. "
            "Nothing fetched, nothing deleted",
        )
    cap = caps.retires(census.held)
    new_retires = census.retires - census.approved_retires
    too_many_retires = new_retires > 0 and (census.retires > cap or census.retires >= census.held + census.arriving)
    new_replacements = census.replacements - census.approved_replacements
    too_many_replacements = new_replacements > 0 and census.held >= FEW and census.replacements * 2 > census.held
    messages = []
    if too_many_retires:
        gone = f"{census.retires} of {counted(census.held, 'file')} gone from the source"
        messages.append(f"{gone} (cap {min(cap, max(census.held - 1, 0))})")
    if too_many_replacements:
        messages.append(f"{census.replacements} of {census.held} files changed at the source (cap {census.held // 2})")
    tail = ". Nothing deleted or replaced, new files still arrive" if messages else ""
    return Verdict(
        retires=not too_many_retires,
        replacements=not too_many_replacements,
        message=" and ".join(messages) + tail,
    )
