"""`kubectl rljob COMMAND …`: jobs in a cluster. A module a command; `jobs.py` is the only one that talks to the API."""
