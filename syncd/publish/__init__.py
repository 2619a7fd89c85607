"""Where announcements go: nsqd, or the embedded spool."""
