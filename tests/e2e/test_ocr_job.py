"""The job that the deployment has to do: 60 pages, three workers, everything through the proxies, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.ocr_collection import assert_read, render_collection
from tests.support.ocr_site import WorkerHost, connected, start_site
from tests.support.require import require

WITHIN_S = 240.0


@pytest.mark.timeout(400)
def test_sixty_pages_are_read_once_each_and_only_the_proxies_are_dialled(tmp_path: Path) -> None:
    """strace shows each connect(2) of `worker-glue run` and everything below it."""
    strace = require("strace", "strace")
    trace = tmp_path / "trace"
    around = (strace, "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect", "-o", str(trace))
    with start_site(tmp_path) as site:
        expected = render_collection(site.share.root)
        with site.host() as host:
            _assert_only_the_environment_tells(host)
            with host.workers(3, around=around):
                job = site.backend.submit([each.wanted for each in expected])
                document = site.backend.until_complete(job, WITHIN_S)
                site.backend.until_idle()
            site.backend.assert_complete(job, document, no_errors=True)
            site.backend.assert_no_local_path(document, host.base, host.target)
            assert_read(document, expected)
            _assert_all_took_part(document)
            assert connected(trace) == {("127.0.0.1", port) for port in host.proxies.ports}
        site.backend.assert_unchanged(job, document)


def _assert_only_the_environment_tells(host: WorkerHost) -> None:
    """Neither NSQ nor MongoDB is named in the configuration."""
    told = host.syncd.config.read_text()
    assert "[nsq]" not in told
    assert "[mongo]" not in told


def _assert_all_took_part(document: dict[str, Any]) -> None:
    """Three workers, each under an id that says where it ran."""
    ids = {result["metadata"]["worker_id"] for result in document["checkpoint"]["results"]}
    assert ids == {"tod-mac-1", "tod-mac-2", "tod-mac-3"}
