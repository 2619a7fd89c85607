"""Workers as processes: who they are, who starts and ends them, and what each is put together from."""
