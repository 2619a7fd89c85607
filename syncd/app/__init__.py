"""The composition root: settings become a running engine; with doctor the only one that names concrete adapters.

Nothing is imported here: a command pays only for the part that it uses (runs, verifying, telling, or the bare site).
"""
