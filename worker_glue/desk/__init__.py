"""What operators do around jobs: submit, check, look, publish again. Logic only; desk/links.py opens what it needs."""
