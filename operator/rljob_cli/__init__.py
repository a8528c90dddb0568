"""The command line, `rljob` and `kubectl rljob`: one module per command. `__main__` holds the table of commands."""
