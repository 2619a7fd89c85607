"""The daemon: schedule, change hints, lock, signals, sd_notify."""
