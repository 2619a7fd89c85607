"""A change of [host] restarts what it concerns, and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.support.daemon import Host, fill


def test_other_hours_away_disturb_no_mirror_and_another_time_zone_moves_the_schedule(tmp_path: Path) -> None:
    fill(tmp_path / "source", 3)
    host = Host(tmp_path)
    cron = 'cron = "10 3 * * *"\nsettle = "0.1s"\n'
    host.add_mirror("M", f"file://{tmp_path / 'source'}", tmp_path / "data" / "M", extra=cron)
    host.host_table = 'name = "tod-mac"\ntimezone = "Asia/Kolkata"'
    host.write()
    with host.daemon() as daemon:
        daemon.until_ok()
        at_rest = daemon.until(lambda: daemon.log.count("event=run.done") >= 1 and daemon.mirror("M"), "at rest")
        host.host_table += '\naway = "22:00-07:00"'
        host.write()
        daemon.until_logged("event=config.reloaded stopped=[] started=[]")
        assert daemon.mirror("M")["next_run"] == at_rest["next_run"]
        host.host_table = host.host_table.replace("Asia/Kolkata", "Asia/Tokyo")
        host.write()
        daemon.until_logged("event=config.reloaded stopped=['M'] started=['M']")
        daemon.until(lambda: daemon.mirror("M")["next_run"].endswith("T18:10:00Z"), "03:10 in Tokyo")
