"""The worker: tasks from NSQ, each worked on in a thread of its own, each ended by exactly one result or error."""

from worker_glue.flow.limits import Limits
from worker_glue.flow.witness import Silence, Witness
from worker_glue.flow.worker import Means, Worker

__all__ = ["Limits", "Means", "Silence", "Witness", "Worker"]
