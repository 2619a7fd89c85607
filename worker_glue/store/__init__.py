"""The host's durable store of results, and what brings them to MongoDB when their worker could not."""
