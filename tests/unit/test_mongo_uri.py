"""A MongoDB URI's form: each way to get it wrong is named, the corrected form is shown, the password never is."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pymongo.uri_parser import parse_uri

from syncd.core.mongo_uri import DATABASE, MongoUri, corrected, driver_options, lacks_auth_source, read
from syncd.doctor.checks import Level
from syncd.doctor.mongo import check_uri, without_password

CORE = "Zq7vKw"
"""In every password: no word of a message has it in it."""

ODD = st.text(st.sampled_from("@:/?#[]%&=+;, \"'\\$<>{}ä✓\x07é.-_~!*()aZ0"), max_size=8)
PASSWORDS = st.builds(lambda before, after: before + CORE + after, ODD, ODD)
TAILS = ["@127.0.0.1:27017/gvpocr?authSource=admin", "@127.0.0.1", "@h:27o17/gvpocr", "@[::1]:9/d?a=b&c", "/", ""]


def known(text: str) -> MongoUri:
    uri, _ = read(text)
    assert uri is not None
    return uri


def shown(text: str) -> str:
    _, checks = check_uri(text, "the URI in $MONGO_URI")
    return " ".join(f"{check.seen} {check.todo}" for check in checks)


def test_the_form_that_works_is_left_alone() -> None:
    text = "mongodb://gvpocr:s%40cret@172.12.0.132:27017/gvpocr?authSource=admin&directConnection=true"
    uri, checks = check_uri(text, "the URI in $MONGO_URI")
    assert uri is not None
    assert [(check.status, check.seen) for check in checks] == [(Level.OK, text.replace("s%40cret", "***"))]
    assert (uri.user, uri.password, uri.host, uri.database) == ("gvpocr", "s@cret", ("172.12.0.132", 27017), "gvpocr")
    assert uri.usable == text


@pytest.mark.parametrize(
    ("text", "seen", "todo", "level"),
    [
        ("mongodb://u:a@b@h/d?authSource=admin", "the password has a raw @ in it", "write @ as %40", Level.FAIL),
        ("mongodb://u:a/b@h/d?authSource=admin", "the password has a raw / in it", "write / as %2F", Level.FAIL),
        ("mongodb://u:a:b@h/d?authSource=admin", "the password has a raw : in it", "write : as %3A", Level.FAIL),
        ("mongodb://u:a%b@h/d?authSource=admin", "the password has a raw % in it", "write % as %25", Level.FAIL),
        ("mongodb://u:a+b@h/d?authSource=admin", "which some drivers read as a space", "write + as %2B", Level.WARN),
        ("mongodb://u[1]:ab@h/d?authSource=admin", "the user has a raw [ ] in it", "write [ as %5B", Level.FAIL),
        ("mongodb://u:@h/d?authSource=admin", "the password is empty", "USER:PASSWORD", Level.WARN),
        ("mongodb://u:ab@h/d", "authSource is missing", "add authSource=admin", Level.WARN),
        ("mongodb://u:ab@h/", "it names no database; gvpocr is used", "write /gvpocr", Level.WARN),
        ("mongodb://u:ab@h/a%20b?authSource=admin", "cannot be the name of a database", "write /gvpocr", Level.FAIL),
        ("mongodb://u:ab@h?authSource=admin", "there is no / before the ?", "HOST:PORT/DATABASE?OPTIONS", Level.FAIL),
        ("mongodb://u:ab@h,i/d?authSource=admin", "it names 2 servers", "name one server", Level.WARN),
        ("mongodb://u:ab@h:99999/d", "no HOST:PORT can be made out", "HOST:27017", Level.FAIL),
        ("mongodb://h/d?tls", "an option has no value", "NAME=VALUE", Level.FAIL),
        ("mongodb://h/d?tls=true&TLS=false", "TLS is given twice", "keep one", Level.WARN),
        ("mongo://u:ab@h/d", 'it begins with "mongo://"', "write mongodb://", Level.FAIL),
        ("localhost:27017", "it does not begin with mongodb://", "write mongodb://", Level.FAIL),
        ("mongodb+srv://u:ab@h/d", "goes round every proxy", "name the server", Level.FAIL),
        ('"mongodb://h/d"', "quotation marks stand around it", "nothing but the URI", Level.FAIL),
        ("mongodb://u:${MONGO_PW}@h/d?authSource=admin", "the password looks like a placeholder", "itself", Level.WARN),
    ],
)
def test_each_way_to_get_it_wrong_is_named_with_its_cure(text: str, seen: str, todo: str, level: Level) -> None:
    _, checks = check_uri(text, "the URI in $MONGO_URI")
    found = [check for check in checks if seen in check.seen]
    assert len(found) == 1, [check.seen for check in checks]
    assert todo in found[0].todo
    assert found[0].status is level


def test_the_corrected_form_is_shown_whole_but_for_the_password() -> None:
    told = shown(f"mongodb://gvpocr:{CORE}@1@127.0.0.1/")
    form = "mongodb://gvpocr:***@127.0.0.1:27017/gvpocr?authSource=admin&directConnection=true"
    assert f"the URI in $MONGO_URI is to read {form}, with the password for ***" in told
    assert CORE not in told


def test_what_is_corrected_is_what_was_meant() -> None:
    better = corrected(known("mongodb://u:p@ss/w:%@127.0.0.1:1/?appName=ocr"))
    parsed = parse_uri(better.usable)
    assert parsed["password"] == "p@ss/w:%"
    assert parsed["database"] == DATABASE
    options = {name.lower(): value for name, value in parsed["options"].items()}
    assert (options["authsource"], options["appname"], options["directconnection"]) == ("admin", "ocr", True)


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("mongodb://u:p@h/gvpocr", True),
        ("mongodb://u:p@h/gvpocr?AUTHSOURCE=admin", False),
        ("mongodb://u:p@h/admin", False),
        ("mongodb://u:p@h/", False),
        ("mongodb://h/gvpocr", False),
        ("mongodb://CN%3Du@h/gvpocr?authMechanism=MONGODB-X509", False),
    ],
)
def test_where_a_login_is_looked_up(text: str, lacks: bool) -> None:
    assert lacks_auth_source(known(text)) is lacks


@given(PASSWORDS)
def test_an_escaped_password_is_fine_and_arrives_as_it_is(password: str) -> None:
    text = f"mongodb://u:{quote(password, safe='')}@127.0.0.1:27017/gvpocr?authSource=admin"
    uri, troubles = read(text)
    assert uri is not None
    assert [trouble for trouble in troubles if "password" in trouble.seen] == []
    assert uri.password == password
    assert parse_uri(uri.usable)["password"] == password


@given(PASSWORDS, st.sampled_from(TAILS), st.sampled_from(["mongodb://", "mongo://", "mongodb+srv://", ""]))
@example(f"x@h/?{CORE}=1", TAILS[0], "mongodb://")
@example(f"a@b:1/{CORE}", "@h:27o17/gvpocr", "mongodb://")
def test_a_raw_password_is_never_shown(password: str, tail: str, scheme: str) -> None:
    text = f"{scheme}root:{password}{tail}"
    if "@" in tail:
        assert CORE not in shown(text)
        assert CORE not in repr(read(text)[0])


@given(PASSWORDS.filter(lambda word: "%" not in word and word.strip() == word))
def test_a_raw_password_is_read_as_it_was_meant(password: str) -> None:
    uri = known(f"mongodb://root:{password}@127.0.0.1:27017/gvpocr?authSource=admin")
    assert (uri.user, uri.password, uri.host) == ("root", password, ("127.0.0.1", 27017))


@given(PASSWORDS, st.sampled_from([str, repr, quote, lambda word: quote(word, safe="")]))
def test_words_of_a_driver_lose_the_password(password: str, form: object) -> None:
    assert callable(form)
    uri = known("mongodb://root:x@h/d")._replace(password=password)
    assert CORE not in without_password(f"cannot log in with {form(password)}: refused", uri)


@pytest.mark.parametrize(
    ("uri", "direct"),
    [
        ("mongodb://u:p@h:1/d?authSource=admin", True),
        ("mongodb://h", True),
        ("mongodb://h/?replicaSet=rs0", None),
        ("mongodb://h,i/d", None),
        ("mongodb://h/?directConnection=false", None),
        ("mongodb://h/?directconnection=true", None),
    ],
)
def test_one_host_is_dialled_directly(uri: str, direct: bool | None) -> None:
    """None: the option is left to the URI and the driver."""
    parsed, _ = read(uri)
    assert parsed is not None
    options = driver_options(parsed, "test", pool=1, connect_s=5.0, call_s=8.0)
    assert options.get("directConnection") is direct
    assert options["timeoutMS"] == 8000
    assert options["w"] == "majority"
    assert options["journal"] is True
