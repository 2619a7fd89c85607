"""The command line of the workers: one module a verb, thin."""
