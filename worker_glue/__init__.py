"""worker_glue: turns the server path in an OCR task into a verified local file (the worker's side of syncd)."""
