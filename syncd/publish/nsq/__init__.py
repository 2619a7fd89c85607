"""NSQ, over nsqd's TCP port. The only place in syncd that uses pynsq."""

from syncd.publish.nsq.link import Nsqd, Patience
from syncd.publish.nsq.publisher import NsqPublisher
from syncd.publish.nsq.tasks import TaskPeek

__all__ = ["NsqPublisher", "Nsqd", "Patience", "TaskPeek"]
