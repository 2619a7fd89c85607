"""The daemon on HTTP: status page, JSON API, metrics. What it serves is a Service (port.py)."""
