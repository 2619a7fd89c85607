"""The daemon: schedule, change hints, lock, signals, sd_notify.

living.py     one daemon: everything that runs beside each other, started, reloaded and stopped
keeper.py     one mirror: its thread, which does one thing after the other (runs, hints, repairs, verification)
relaying.py   how announcements are sent
progress.py   whether what a keeper does gets on
awake.py      what is in hand, for which the machine is held awake
care.py       what lies in the mirror between runs: changes by others, background verification, room
keeping.py    how the composition's commands run inside the daemon: shared target, shared locks
schedule.py   when a mirror is due; clock jumps
target.py     one mirror's target, opened when needed, closed when nobody uses it
logins.py     no password is tried twice
answers.py    what the daemon answers on its API (web/port.py)
"""
