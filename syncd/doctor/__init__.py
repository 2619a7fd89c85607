"""One check a hop, from the configuration to the share; every check is a value. Beside app: may name adapters.

Nothing here writes into a state directory or a target.
"""
