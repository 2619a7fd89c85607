"""worker-glue doctor: one check a hop, from the configuration to NSQ, MongoDB, the daemon, the mirror and OCR."""
