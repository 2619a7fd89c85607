"""What the backend keeps in MongoDB of jobs and their tasks. The only place in worker_glue that uses pymongo."""
