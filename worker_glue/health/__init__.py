"""How a worker says that it lives and what it does: files for this host, metrics for Prometheus."""
