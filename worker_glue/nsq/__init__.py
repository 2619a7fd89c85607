"""Reading from NSQ. The only place in worker_glue that uses pynsq."""

from worker_glue.nsq.watch import Watch, Where, addresses_in_environment

__all__ = ["Watch", "Where", "addresses_in_environment"]
