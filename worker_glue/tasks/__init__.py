"""Tasks as they come over NSQ, and what becomes of them: values in, values out. No I/O."""
