"""Reading from NSQ, and writing to it. The only place in worker_glue that uses pynsq."""

from worker_glue.nsq.connection import Patience
from worker_glue.nsq.consumer import Consumer
from worker_glue.nsq.control import Control
from worker_glue.nsq.drain import Letter, drain
from worker_glue.nsq.producer import Producer, Waits
from worker_glue.nsq.readers import Reading
from worker_glue.nsq.watch import Watch
from worker_glue.nsq.where import Where, addresses_in_environment

__all__ = [
    "Consumer",
    "Control",
    "Letter",
    "Patience",
    "Producer",
    "Reading",
    "Waits",
    "Watch",
    "Where",
    "addresses_in_environment",
    "drain",
]
