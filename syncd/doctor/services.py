"""What syncd talks to beside the sources: every nsqd and nsqlookupd, MongoDB, and syncd itself as a running service."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from syncd.config import Settings
from syncd.config.values import Address
from syncd.core.wire import RUNS_TOPIC
from syncd.doctor import mac, nsq
from syncd.doctor.checks import Check, Group, Pace, ok
from syncd.doctor.parallel import Running


def begin(settings: Settings, env: Mapping[str, str], program: str, pace: Pace, *, daemon: bool) -> list[Running]:
    """Start looking at all of them at the same time. daemon: also at the service, and at what the daemon sees."""
    started = [_nsqd(address, env, pace) for address in settings.nsq.nsqd]
    started += [_lookupd(address, settings, env, pace) for address in settings.nsq.lookupd]
    if settings.mongo.uri is not None:
        started.append(_mongo(settings, pace))
    return [*started, _daemon(settings, env, program, pace)] if daemon else started


def check_announcements(settings: Settings) -> list[Check]:
    """Say where announcements go when they do not go to nsqd."""
    nsq_settings = settings.nsq
    if nsq_settings.announce == "nsq":
        return []
    if nsq_settings.announce == "off":
        return [ok("nsq", 'announce = "off": nothing is announced')]
    why = 'announce = "local"' if nsq_settings.nsqd else "no nsqd_tcp_address is set"
    return [ok("nsq", f"{why}: announcements go to the embedded spool (syncd events)")]


def _nsqd(address: Address, env: Mapping[str, str], pace: Pace) -> Running:
    setting = nsq.setting_of("NSQD_ADDRESS", "nsqd_tcp_address", env)
    return _running(
        Group("", f"nsqd {address}, from {setting}", about="nsqd"), lambda: nsq.hops(address, setting, pace)
    )


def _lookupd(address: Address, settings: Settings, env: Mapping[str, str], pace: Pace) -> Running:
    setting = nsq.setting_of("NSQLOOKUPD_ADDRESSES", "lookupd_http_addresses", env)
    topics = (settings.nsq.topic, RUNS_TOPIC) if settings.nsq.announce == "nsq" else ()

    def work() -> list[Check]:
        from syncd.doctor import lookupd

        return lookupd.hops(address, setting, settings.nsq, topics, pace)

    return _running(Group("", f"nsqlookupd {address}, from {setting}", about="nsqlookupd"), work)


def _mongo(settings: Settings, pace: Pace) -> Running:
    secret = settings.mongo.uri
    assert secret is not None  # noqa: S101 (the caller looked)

    def work(told: list[Check]) -> None:
        from syncd.doctor import mongo

        mongo.add_hops(settings, secret, pace, told)
        told[:] = mac.with_network_advice(told)

    return Running(Group("", f"MongoDB, from {secret.where}", about="mongodb"), work)


def _daemon(settings: Settings, env: Mapping[str, str], program: str, pace: Pace) -> Running:
    def work(told: list[Check]) -> None:
        from syncd.doctor import daemon

        daemon.add_checks(settings, env, program, pace, told)

    return Running(Group("", "the service, and what the daemon sees", about="daemon"), work)


def _running(group: Group, work: Callable[[], list[Check]]) -> Running:
    return Running(group, lambda told: told.extend(mac.with_network_advice(work())))
