"""Who is told when something goes wrong, and when it is over: one message each.

rules.py     what is known -> the conditions that are worth a message (pure)
memory.py    conditions over time -> which alerts have begun, and which are over (pure)
delivery.py  one thread a channel: tells it what it has not been told, until it takes it
webhook.py, command.py, mail.py   the channels
watch.py     the loop that puts these together; leases for what several hosts see
"""
