"""An nsqd that lets no message be held for long: what waits comes to its end all the same, once."""

from __future__ import annotations

from pathlib import Path

from tests.support.backend import Wanted, errors_by_index, results_by_index
from tests.support.daemon import put
from tests.support.ocr_site import start_site
from tests.support.trial_engine import CONFIG, page

HOLD_S = 3
WORKER = f'[worker]\nmissing_grace = "{HOLD_S}s"\nwait_for_source = "1h"\n{CONFIG}'
"""Two looks that far apart do not fit into the time that a message is held."""


def test_a_missing_file_is_one_error_and_a_slow_one_a_result(tmp_path: Path) -> None:
    options = {"msg-timeout": "2s", "max-msg-timeout": f"{HOLD_S}s"}
    with start_site(tmp_path, nsqd_options=options) as site:
        put(site.share.root, "a/slow.jpg", page("slow", HOLD_S * 1.5))
        with site.host(worker=WORKER) as host, host.workers(3):
            job = site.backend.submit([Wanted("Bhushanji/a/gone.jpg"), Wanted("Bhushanji/a/slow.jpg")])
            document = site.backend.until_complete(job)
            site.backend.assert_complete(job, document)
            assert errors_by_index(document)[0]["reason"] == "missing"
            assert results_by_index(document)[1]["text"] == "slow"
            site.backend.until_idle()
