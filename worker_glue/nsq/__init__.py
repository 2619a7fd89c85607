"""Reading from NSQ. The only place in worker_glue that uses pynsq."""

from worker_glue.nsq.connection import Patience
from worker_glue.nsq.consumer import Consumer
from worker_glue.nsq.readers import Reading
from worker_glue.nsq.watch import Watch
from worker_glue.nsq.where import Where, addresses_in_environment

__all__ = ["Consumer", "Patience", "Reading", "Watch", "Where", "addresses_in_environment"]
