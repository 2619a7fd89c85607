"""Telling Samba's stand-ins (8.3 names it lists for names that Windows forbids) from names that only look like them.

A listing cannot tell: LETTER~1.JPG may be a file's name. FileAllInformation of an open file gives its true path
(measured, Samba 4.17), so each name that has the form of a stand-in is asked for, and nothing else.
"""

from __future__ import annotations

import re

from syncd.sources.smb import packets
from syncd.sources.smb.errors import SUCCESS

# Samba's hash2: six characters, "~", one more, the extension cut to three; never lower case.
_FORM = re.compile(r"[^a-z.]{6}~[^a-z.](?:\.[^a-z.]{1,3})?")


def could_be_mangled(name: str) -> bool:
    """Return whether a listed name has the form of a stand-in."""
    return "~" in name and _FORM.fullmatch(name) is not None


class Probe:
    """The question what one listed name is called in truth. `mangled` is right once `answered`.

    A server that does not tell leaves the name suspect; one that is gone or closed to us fails by itself when fetched.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.answered = False
        self.mangled = False
        self.handle: bytes | None = None
        self._opened = False

    def on_create(self, status: int, view: memoryview, start: int, end: int) -> None:
        """Take the reply to CREATE."""
        if status == SUCCESS:
            self.handle = packets.unpack_create(view, start, end)[4]
            self._opened = True

    def on_query(self, status: int, view: memoryview, start: int, end: int) -> None:
        """Take the reply to QUERY_INFO."""
        if status == SUCCESS:
            first, last = packets.unpack_output(view, start, end, "QUERY_INFO")
            true_path = packets.unpack_all_information(view, first, last).name
            self.mangled = true_path.rpartition("\\")[2] != self.name
        else:
            self.mangled = self._opened

    def on_close(self, status: int, view: memoryview, start: int, end: int) -> None:  # noqa: ARG002
        """Take the reply to CLOSE."""
        self.answered = True
        if status == SUCCESS:
            self.handle = None
