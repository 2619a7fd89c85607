"""Which host holds what, in MongoDB, for people and dashboards."""
