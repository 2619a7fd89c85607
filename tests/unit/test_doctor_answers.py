"""What doctor tells of the checks that the daemon makes."""

from __future__ import annotations

from syncd.doctor import daemon


def test_the_daemon_s_own_answers_are_told_where_they_are_not_well() -> None:
    checks = [
        {"mirror": "B", "group": "mirror", "name": "target", "status": "ok", "seen": "there", "todo": ""},
        {"mirror": "B", "group": "mirror", "name": "port", "status": "fail", "seen": "refused", "todo": "look"},
        {"mirror": None, "group": "nsqd", "name": "topic", "status": "warn", "seen": "nobody reads", "todo": ""},
    ]
    told = daemon.check_answers(checks)
    assert [(check.name, check.status.value) for check in told] == [
        ("port", "fail"),
        ("topic", "warn"),
        ("in the daemon", "ok"),
    ]
    assert told[0].seen == "in the daemon, B: refused"
    assert told[0].todo == "look"
    assert told[1].seen.startswith("in the daemon, nsqd:")
    assert told[2].seen == "1 checks made by the daemon are well"
    assert daemon.check_answers(None)[0].status.value == "warn"
