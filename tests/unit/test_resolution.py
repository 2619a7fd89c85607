"""What spellings mean, and what is answered for each way that a file can be (no disk, no catalogue)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import pytest

from syncd.core.errors import LocalIOError, PathUnsafe, SyncdError, TargetForeign, TargetMissing
from syncd.core.model import LocalStat, Record, RelPath, Unheld
from syncd.core.reasons import Reason
from syncd.core.resolution import Look, Resolution, State
from syncd.core.spelling import MAX_READINGS, MAX_SPELLED, Spellings, candidates
from syncd.engine.resolving import KnownMirror, Resolver

LISTED = "2026-01-02T03:04:05Z"
LOCAL = LocalStat(11, 22, 33)
FOUND = "hin-typed/Patra  3, Haridwar (2) .JPG"


def record(local: LocalStat = LOCAL) -> Record:
    return Record(22, 1, 0, 0, "ab" * 32, 7, *local)


class Mirror:
    """One mirror in memory: catalogue, folder and configuration at once."""

    def __init__(self, name: str, *held: str, listed: str = LISTED) -> None:
        self.name = name
        self.listed = listed
        self.held = dict.fromkeys(held, record())
        self.unheld: dict[str, Reason] = {}
        self.held_back: set[str] = set()
        self.near: dict[str, list[RelPath]] = {}
        self.excluded: set[str] = set()
        self.local: dict[str, LocalStat | SyncdError | None] = {}
        self.away: SyncdError | None = None
        self.opened = 0
        self.looked: list[str] = []

    @property
    def folders(self) -> set[str]:
        return {path[:at] for path in (*self.held, *self.unheld) for at, c in enumerate(path) if c == "/"}

    def look_up(self, path: RelPath) -> Look:
        self.looked.append(path)
        unheld = Unheld(path, self.unheld[path], "why") if path in self.unheld else None
        return Look(self.listed, self.held.get(path), unheld, path in self.held_back, path in self.folders)

    def fault_above(self, path: RelPath) -> Unheld | None:
        above = ["", *(path[:at] for at, c in enumerate(path) if c == "/")]
        return next((Unheld(RelPath(f), self.unheld[f], "") for f in reversed(above) if f in self.unheld), None)

    def near_names(self, path: RelPath) -> Sequence[RelPath]:
        return self.near.get(path, [])

    def stat_open(self, path: RelPath) -> LocalStat | None:
        self.opened += 1
        found = self.local.get(path, LOCAL)
        if isinstance(found, SyncdError):
            raise found
        return found

    @contextlib.contextmanager
    def use(self) -> Iterator[Mirror]:
        if self.away is not None:
            raise self.away
        yield self


class World:
    """Some mirrors and a resolver over them."""

    def __init__(self, *mirrors: Mirror, aliases: tuple[str, ...] = ()) -> None:
        self.suspected: list[tuple[str, str]] = []
        known = [
            KnownMirror(
                mirror.name,
                Spellings(
                    mirror.name, f"/srv/t/{mirror.name}", f"gvpocr-{mirror.name.lower()}", aliases, "172.12.0.132"
                ),
                mirror,
                lambda path, mirror=mirror: "pattern" if path in mirror.excluded else "",  # type: ignore[misc]
                mirror.use,
                f"/srv/t/{mirror.name}",
            )
            for mirror in mirrors
        ]
        self.resolver = Resolver(known, lambda mirror, path: self.suspected.append((mirror, path)))

    def __call__(self, spelled: str) -> Resolution:
        return self.resolver.resolve(spelled)

    def outcome(self, spelled: str) -> tuple[State, Reason | None]:
        answer = self(spelled)
        return answer.state, answer.reason


# --- spellings -------------------------------------------------------------------------------------------------------

FRONTS = [
    "",
    "./",
    "Bhushanji/",
    "./Bhushanji/",
    "Bhushanji//./",
    "/app/Bhushanji/",
    "/data/Bhushanji/",
    "data/Bhushanji/",
    "/app/",
    "/mnt/sda1/mango1_home/Bhushanji/",
    "/home/gvpocr/Bhushanji/",
    "/mnt/sshfs/main-server/Bhushanji/",
    "uploads/Bhushanji/",
    "/Volumes/bhushanji_shared/",
    "/srv/t/Bhushanji/",
    "file:///srv/t/Bhushanji/",
    "file://localhost/srv/t/Bhushanji/",
    "smb://172.12.0.132/gvpocr-bhushanji/",
    "smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji/",
    "SMB://other-name/GVPOCR-Bhushanji/",
    "//172.12.0.132/gvpocr-bhushanji/",
    "//app/Bhushanji/",
    "sftp://u@h:2222/mnt/sda1/Bhushanji/",
    "file://172.12.0.132/gvpocr-bhushanji/",
    "C:/Users/x/Bhushanji/",
]


@pytest.mark.parametrize("front", FRONTS)
def test_every_spelling_in_use_finds_the_file(front: str) -> None:
    world = World(Mirror("Bhushanji", FOUND), Mirror("newsletters"), aliases=("/Volumes/bhushanji_shared",))
    answer = world(front + FOUND)
    assert (answer.state, answer.mirror, answer.path) == (State.READY, "Bhushanji", FOUND)
    assert answer.server_path == f"Bhushanji/{FOUND}"
    assert answer.local_path == f"/srv/t/Bhushanji/{FOUND}"
    assert (answer.size, answer.sha256, answer.generation, answer.listed_at) == (22, "ab" * 32, 7, LISTED)


@pytest.mark.parametrize(
    "spelled",
    [
        r"\\172.12.0.132\gvpocr-bhushanji\a\b c.pdf",
        r"\\host\gvpocr-bhushanji/a/b c.pdf",
        r"Bhushanji\a\b c.pdf",
        r"a\b c.pdf",
        r"C:\Users\x\Bhushanji\a\b c.pdf",
        r"/app/Bhushanji\a\b c.pdf",
        "Bhushanji/a/b%20c.pdf",
        "smb://h/gvpocr-bhushanji/a%2Fb%20c.pdf",
    ],
)
def test_backslashes_and_percent_signs(spelled: str) -> None:
    answer = World(Mirror("Bhushanji", "a/b c.pdf"))(spelled)
    assert (answer.state, answer.path) == (State.READY, "a/b c.pdf")


NFC, NFD = "\N{LATIN SMALL LETTER E WITH ACUTE}.pdf", "e\N{COMBINING ACUTE ACCENT}.pdf"


@pytest.mark.parametrize(("held", "spelled"), [(NFC, NFD), (NFD, NFC), (NFD, "%C3%A9.pdf"), (NFC, "e%CC%81.pdf")])
def test_the_other_unicode_form(held: str, spelled: str) -> None:
    assert World(Mirror("Bhushanji", held))(f"Bhushanji/{spelled}").path == held


@pytest.mark.parametrize(
    ("both", "spelled"),
    [
        (("a%20b.pdf", "a b.pdf"), "a%20b.pdf"),
        (("100%.pdf", "100.pdf"), "100%.pdf"),
        ((NFC, NFD), NFC),
        ((NFC, NFD), NFD),
        (("%C3%A9.pdf", NFC), "%C3%A9.pdf"),
    ],
)
def test_what_is_there_as_it_is_spelled_comes_first(both: tuple[str, str], spelled: str) -> None:
    assert World(Mirror("Bhushanji", *both))(f"Bhushanji/{spelled}").path == spelled


def test_a_listed_file_whose_name_has_a_backslash_is_not_another_file() -> None:
    mirror = Mirror("Bhushanji", "a/b.pdf")
    mirror.unheld["a\\b.pdf"] = Reason.NAME_SEPARATOR
    assert World(mirror).outcome("Bhushanji/a\\b.pdf") == (State.REFUSED, Reason.NAME_SEPARATOR)


def test_the_more_specific_alias_wins() -> None:
    one, two = Mirror("Bhushanji", "newsletters/x.pdf"), Mirror("newsletters", "x.pdf")
    world = World(one, two)
    assert world("Bhushanji/newsletters/x.pdf").mirror == "Bhushanji"
    assert world("/app/newsletters/x.pdf").mirror == "newsletters"
    assert world("newsletters/x.pdf").mirror == "newsletters", "also a path of the other mirror, but less specific"
    del two.held["x.pdf"]
    assert world("newsletters/x.pdf").mirror == "Bhushanji"


def test_a_share_of_the_same_name_on_another_server_is_less_specific() -> None:
    mirrors = [Mirror("A", "x.pdf"), Mirror("B", "x.pdf")]
    known = [
        KnownMirror(
            m.name, Spellings(m.name, f"/t/{m.name}", "share", (), host), m, lambda _: "", m.use, f"/t/{m.name}"
        )
        for m, host in zip(mirrors, ("one", "two"), strict=True)
    ]
    resolver = Resolver(known, lambda *_: None)
    assert resolver.resolve("smb://u@ONE:445/share/x.pdf").mirror == "A"
    assert resolver.resolve("smb://two/share/x.pdf").mirror == "B"
    assert resolver.resolve("smb://three/share/x.pdf").state is State.AMBIGUOUS


def test_an_alias_may_name_a_server() -> None:
    mirrors = [Mirror("Bhushanji", "x.pdf"), Mirror("newsletters", "x.pdf")]
    aliases = (("smb://nas/old-share", "//nas/other"), ())
    known = [
        KnownMirror(m.name, Spellings(m.name, f"/t/{m.name}", "", more), m, lambda _: "", m.use, f"/t/{m.name}")
        for m, more in zip(mirrors, aliases, strict=True)
    ]
    resolver = Resolver(known, lambda *_: None)
    for spelled in ("smb://me@nas:445/OLD-share/x.pdf", r"\\NAS\old-share\x.pdf", "//nas/other/x.pdf"):
        assert resolver.resolve(spelled).mirror == "Bhushanji", spelled
    assert resolver.resolve("smb://elsewhere/old-share/x.pdf").reason is Reason.OUTSIDE


def test_true_ambiguity_names_both() -> None:
    world = World(Mirror("Bhushanji", "x.pdf"), Mirror("newsletters", "x.pdf"))
    answer = world("x.pdf")
    assert (answer.state, answer.reason, answer.mirror) == (State.AMBIGUOUS, Reason.AMBIGUOUS, "")
    assert answer.candidates == ("Bhushanji/x.pdf", "newsletters/x.pdf")
    inside = World(Mirror("Bhushanji", "Bhushanji/y.pdf", "y.pdf"))("/mnt/Bhushanji/Bhushanji/y.pdf")
    assert (inside.state, len(inside.candidates)) == (State.AMBIGUOUS, 2)


def test_a_file_that_is_listed_but_not_held_makes_it_ambiguous_too() -> None:
    other = Mirror("newsletters")
    other.unheld["x.pdf"] = Reason.UNREADABLE
    assert World(Mirror("Bhushanji", "x.pdf"), other)("x.pdf").state is State.AMBIGUOUS


def test_a_folder_of_that_name_does_not() -> None:
    assert World(Mirror("Bhushanji", "a"), Mirror("newsletters", "a/b.pdf"))("a").state is State.READY


def test_candidates_for_people_always_has_one_a_mirror() -> None:
    mirrors = [Spellings("A", "/t/A", "share"), Spellings("B", "/t/B")]
    for spelled in ("", "/", "..", "/etc/passwd", "smb://h/other/x", "x", "\ud800", "A/x"):
        assert {mirror for mirror, _ in candidates(spelled, mirrors)} == {"A", "B"}, spelled
    assert candidates("A/x", mirrors)[0] == ("A", "x")
    assert candidates(r"\\h\share\y\x", mirrors)[0] == ("A", "y/x")


# --- before the first scan -------------------------------------------------------------------------------------------


def test_until_a_mirror_was_listed_nothing_of_it_is_missing() -> None:
    world = World(Mirror("Bhushanji", listed=""))
    answer = world("Bhushanji/new/x.pdf")
    assert (answer.state, answer.reason, answer.listed_at) == (State.FETCHING, Reason.NEVER_LISTED, "")
    assert (answer.mirror, answer.path) == ("Bhushanji", "new/x.pdf"), "so that it can be fetched on demand"
    assert answer.retry_after_s


def test_what_has_come_already_is_served_during_the_first_scan() -> None:
    assert World(Mirror("Bhushanji", "x.pdf", listed=""))("Bhushanji/x.pdf").state is State.READY


@pytest.mark.parametrize("spelled", ["x.pdf", "newsletters/x.pdf", "a%20b.pdf"])
def test_another_candidate_is_never_taken_instead(spelled: str) -> None:
    here = Mirror("Bhushanji", "x.pdf", "newsletters/x.pdf", "a b.pdf")
    world = World(here, Mirror("newsletters", listed=""))
    assert world.outcome(spelled) == (State.FETCHING, Reason.NEVER_LISTED)
    assert here.opened == 0


def test_a_mirror_that_was_never_listed_does_not_hold_up_what_is_more_specific() -> None:
    world = World(Mirror("Bhushanji", "x.pdf"), Mirror("newsletters", listed=""))
    assert world("Bhushanji/x.pdf").state is State.READY
    assert world.outcome("Bhushanji/y.pdf") == (State.FETCHING, Reason.NEVER_LISTED)
    assert world("Bhushanji/y.pdf").mirror == "Bhushanji"


def test_a_bare_path_is_looked_for_where_its_folder_is_known() -> None:
    world = World(Mirror("Bhushanji", "eng/x.pdf"), Mirror("newsletters", listed=""), Mirror("letters", listed=""))
    assert world("eng/new.pdf").mirror == "Bhushanji"
    assert world("other/new.pdf").mirror == "", "either of two"
    two = World(Mirror("Bhushanji", "eng/x.pdf"), Mirror("newsletters", listed=""))
    assert two("other/new.pdf").mirror == "newsletters", "the other one has been listed without it"


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "reason"),
    [
        ("", Reason.PATH_MALFORMED),
        ("///", Reason.PATH_MALFORMED),
        (".", Reason.PATH_MALFORMED),
        ("..", Reason.PATH_MALFORMED),
        ("Bhushanji/../x.pdf", Reason.PATH_MALFORMED),
        ("Bhushanji/a/..", Reason.PATH_MALFORMED),
        ("Bhushanji\\..\\x.pdf", Reason.PATH_MALFORMED),
        ("../Bhushanji/x.pdf", Reason.PATH_MALFORMED),
        ("Bhushanji/" * (MAX_READINGS + 2), Reason.PATH_MALFORMED),
        ("Bhushanji/x\0.pdf", Reason.NAME_CONTROL),
        ("Bhushanji/x\n.pdf", Reason.NAME_CONTROL),
        ("Bhushanji/x\x85.pdf", Reason.NAME_CONTROL),
        ("Bhushanji/\ud800.pdf", Reason.NAME_UNDECODABLE),
        ("Bhushanji/" + "x" * 256, Reason.NAME_TOO_LONG),
        ("Bhushanji/" + "x/" * 2_000, Reason.NAME_TOO_LONG),
        ("x" * (MAX_SPELLED + 1), Reason.NAME_TOO_LONG),
        ("Bhushanji/a:b.pdf", Reason.NAME_STREAM),
        ("Bhushanji/.syncd/owner", Reason.NAME_RESERVED),
        ("/etc/passwd", Reason.OUTSIDE),
        ("/mnt/elsewhere/a/x.pdf", Reason.OUTSIDE),
        ("smb://h/other-share/a/x.pdf", Reason.OUTSIDE),
        (r"\\h\other-share\a\x.pdf", Reason.OUTSIDE),
        (r"D:\a\x.pdf", Reason.OUTSIDE),
        ("Bhushanji/a/._x.pdf", Reason.VETOED),
        ("Bhushanji/Thumbs.db", Reason.VETOED),
        ("Bhushanji/a/thumbs.db", Reason.VETOED),
        ("Bhushanji/left-out.pdf", Reason.EXCLUDED),
    ],
)
@pytest.mark.parametrize("listed", [LISTED, ""])
def test_refused_for_good(spelled: str, reason: Reason, listed: str) -> None:
    mirror = Mirror("Bhushanji", "a/x.pdf", listed=listed)
    names = ("a/._x.pdf", "Thumbs.db", "a/thumbs.db", "left-out.pdf")
    mirror.excluded = {*names, *(f"Bhushanji/{name}" for name in names)}
    answer = World(mirror)(spelled)
    assert (answer.state, answer.reason, answer.retry_after_s) == (State.REFUSED, reason, None)
    assert mirror.opened == 0


@pytest.mark.parametrize("spelled", ["Bhushanji", "smb://h/gvpocr-bhushanji/", "Bhushanji/a", "a"])
def test_a_folder_is_no_file(spelled: str) -> None:
    assert World(Mirror("Bhushanji", "a/x.pdf")).outcome(spelled) == (State.REFUSED, Reason.FOLDER)


def test_a_percent_encoded_way_out_stays_a_name() -> None:
    mirror = Mirror("Bhushanji", "x.pdf")
    for spelled in (
        "Bhushanji/a/%2e%2e/x.pdf",
        "Bhushanji/%2E%2E%2Fx.pdf",
        "Bhushanji/%00x.pdf",
        "Bhushanji/a%5C..%5Cx",
    ):
        assert World(mirror).outcome(spelled) == (State.MISSING, Reason.NOT_LISTED), spelled


def test_a_hidden_file_that_is_not_vetoed_is_a_file() -> None:
    assert World(Mirror("Bhushanji", ".hidden.jpg"))("Bhushanji/.hidden.jpg").state is State.READY


@pytest.mark.parametrize("spelled", ["uploads/x.pdf", "data/t1/x.pdf", "/app/uploads/x.pdf"])
def test_a_collection_that_no_mirror_has(spelled: str) -> None:
    world = World(Mirror("Bhushanji", "eng/x.pdf"), Mirror("newsletters", "2020/y.pdf"))
    assert world.outcome(spelled) == (State.NO_MIRROR, Reason.NO_MIRROR)
    assert World().outcome(spelled) == (State.NO_MIRROR, Reason.NO_MIRROR)
    late = World(Mirror("Bhushanji", "eng/x.pdf"), Mirror("newsletters", listed=""))
    assert late.outcome(spelled) == (State.FETCHING, Reason.NEVER_LISTED)


# --- missing ---------------------------------------------------------------------------------------------------------


def test_missing_says_as_of_when_and_what_may_be_meant() -> None:
    mirror = Mirror("Bhushanji", "a/X.pdf")
    mirror.near["a/x.pdf"] = [RelPath("a/X.pdf"), RelPath("b"), RelPath("c"), RelPath("d")]
    answer = World(mirror)("/app/Bhushanji/a/x.pdf")
    assert (answer.state, answer.reason) == (State.MISSING, Reason.NOT_LISTED)
    assert (answer.mirror, answer.path, answer.listed_at) == ("Bhushanji", "a/x.pdf", LISTED)
    assert answer.near == ("Bhushanji/a/X.pdf", "Bhushanji/b", "Bhushanji/c")
    assert mirror.opened == 0, "a near name is never followed by itself"


def test_near_names_are_left_out_where_nobody_reads_them() -> None:
    mirror = Mirror("Bhushanji", "a/X.pdf")
    mirror.near["a/x.pdf"] = [RelPath("a/X.pdf")]
    answer = World(mirror).resolver.resolve("Bhushanji/a/x.pdf", near=False)
    assert answer == World(mirror)("Bhushanji/a/x.pdf")._replace(near=())


def test_missing_from_several_mirrors_goes_by_the_oldest_look() -> None:
    world = World(
        Mirror("Bhushanji", "a/x.pdf", listed="2026-01-02"), Mirror("newsletters", "a/y.pdf", listed="2026-01-01")
    )
    answer = world("a/z.pdf")
    assert (answer.state, answer.mirror, answer.listed_at) == (State.MISSING, "", "2026-01-01")


@pytest.mark.parametrize(
    ("folder", "reason", "state"),
    [
        ("a", Reason.LISTING_INCOMPLETE, State.FETCHING),
        ("a/b", Reason.TIMEOUT, State.UNAVAILABLE),
        ("a", Reason.DENIED, State.REFUSED),
        ("", Reason.LISTING_INCOMPLETE, State.FETCHING),
    ],
)
def test_below_a_folder_that_was_not_listed_nothing_is_missing(folder: str, reason: Reason, state: State) -> None:
    mirror = Mirror("Bhushanji", "a/b/x.pdf")
    mirror.unheld[folder] = reason
    assert World(mirror).outcome("Bhushanji/a/b/y.pdf") == (state, reason)
    assert World(mirror)("Bhushanji/a/b/x.pdf").state is State.READY


# --- listed, and not to be served ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (Reason.UNSETTLED, State.FETCHING),
        (Reason.UNREADABLE, State.FETCHING),
        (Reason.CHANGED_WHILE_READ, State.FETCHING),
        (Reason.LOCAL_IO, State.FETCHING),
        (Reason.DISK_FULL, State.UNAVAILABLE),
        (Reason.TIMEOUT, State.UNAVAILABLE),
        (Reason.DENIED, State.REFUSED),
        (Reason.NAME_MANGLED, State.REFUSED),
        (Reason.CASE_TWIN, State.REFUSED),
        (Reason.LINK, State.REFUSED),
        (Reason.PATH_COLLISION, State.REFUSED),
    ],
)
@pytest.mark.parametrize("held", [False, True])
def test_listed_and_not_held_or_not_as_listed(reason: Reason, state: State, held: bool) -> None:
    """A held file that the last complete look showed with other bytes is not current: it is not served either."""
    mirror = Mirror("Bhushanji", *(["x.pdf"] if held else []))
    mirror.unheld["x.pdf"] = reason
    answer = World(mirror)("Bhushanji/x.pdf")
    assert (answer.state, answer.reason) == (state, reason)
    assert (answer.retry_after_s is None) is (state is State.REFUSED)
    assert mirror.opened == 0


def test_a_replacement_that_waits_for_a_person_holds_the_old_version_back() -> None:
    mirror = Mirror("Bhushanji", "x.pdf")
    mirror.held_back.add("x.pdf")
    answer = World(mirror)("Bhushanji/x.pdf")
    assert (answer.state, answer.reason) == (State.FETCHING, Reason.TOO_MANY_CHANGES)
    assert answer.hint == "syncd approve --mirror Bhushanji"


def test_what_one_look_missed_is_still_served() -> None:
    mirror = Mirror("Bhushanji")
    mirror.held["x.pdf"] = record()._replace(absent_run="r1")
    assert World(mirror)("Bhushanji/x.pdf").state is State.READY


# --- verified --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "reason"),
    [
        (None, Reason.LOST),
        (LOCAL._replace(mtime_ns=34), Reason.LOCAL_CHANGED),
        (LOCAL._replace(inode=12), Reason.LOCAL_CHANGED),
        (LOCAL._replace(size=1), Reason.LOCAL_CHANGED),
        (PathUnsafe("a link"), Reason.PATH_UNSAFE),
        (LocalIOError("no"), Reason.LOCAL_IO),
    ],
)
def test_a_file_that_is_not_its_record_s_is_not_served_but_suspected(
    local: LocalStat | SyncdError | None, reason: Reason
) -> None:
    mirror = Mirror("Bhushanji", "x.pdf")
    mirror.local["x.pdf"] = local
    world = World(mirror)
    answer = world("Bhushanji/x.pdf")
    assert (answer.state, answer.reason, answer.local_path) == (State.FETCHING, reason, None)
    assert world.suspected == [("Bhushanji", "x.pdf")]


def test_a_file_that_is_replaced_meanwhile_is_looked_at_again() -> None:
    class Replaced(Mirror):
        def stat_open(self, path: RelPath) -> LocalStat | None:
            self.held[path] = record(LOCAL._replace(inode=99))  # committed between the two looks
            return LOCAL._replace(inode=99)

    world = World(Replaced("Bhushanji", "x.pdf"))
    assert world("Bhushanji/x.pdf").state is State.READY
    assert world.suspected == []


@pytest.mark.parametrize("error", [TargetMissing("gone", hint="plug it in"), TargetForeign("no"), LocalIOError("io")])
def test_a_target_that_cannot_be_opened_is_unavailable(error: SyncdError) -> None:
    mirror = Mirror("Bhushanji", "x.pdf")
    mirror.unheld["waits.pdf"] = Reason.UNREADABLE
    mirror.away = error
    world = World(mirror, Mirror("newsletters", "y.pdf"))
    for path in ("x.pdf", "waits.pdf"):
        answer = world(f"Bhushanji/{path}")
        assert (answer.state, answer.reason, answer.hint or "") == (State.UNAVAILABLE, error.reason, answer.hint)
        assert answer.retry_after_s
    assert world.suspected == []
    assert world("newsletters/y.pdf").state is State.READY
    assert world("Bhushanji/nothing.pdf").state is State.MISSING


def test_a_target_that_was_never_made_is_not_opened() -> None:
    mirror = Mirror("Bhushanji", listed="")
    mirror.unheld["waits.pdf"] = Reason.UNREADABLE
    mirror.away = TargetMissing("not made yet")
    assert World(mirror)("Bhushanji/waits.pdf").state is State.FETCHING


def test_a_file_of_the_most_specific_reading_costs_one_look() -> None:
    mirror = Mirror("Bhushanji", "x.pdf")
    World(mirror, Mirror("newsletters"))("Bhushanji/x.pdf")
    assert mirror.looked == ["x.pdf"]


# --- where the mirror is known ---------------------------------------------------------------------------------------


def test_resolve_in_takes_the_path_as_it_is() -> None:
    mirror = Mirror("Bhushanji", "a/x.pdf", "newsletters/x.pdf", listed="")
    resolver = World(mirror, Mirror("newsletters", "x.pdf")).resolver
    found = {path: resolver.resolve_in("Bhushanji", RelPath(path)) for path in ("newsletters/x.pdf", "a", "b.pdf", "")}
    assert [answer.state for answer in found.values()] == [
        State.READY,
        State.FETCHING,
        State.FETCHING,
        State.REFUSED,
    ]
    assert found["b.pdf"].reason is Reason.NEVER_LISTED
    assert (found["b.pdf"].mirror, found["b.pdf"].path) == ("Bhushanji", "b.pdf")
    mirror.listed = LISTED
    assert resolver.resolve_in("Bhushanji", RelPath("a")).reason is Reason.FOLDER
    assert resolver.resolve_in("Bhushanji", RelPath("zz/b.pdf")).state is State.MISSING
    assert resolver.resolve_in("nobody", RelPath("x")).state is State.NO_MIRROR
