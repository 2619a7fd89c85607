"""The command line: one file per verb, thin, imported only when that verb runs."""
