"""What each command of `lightning-interpret` does; `cli.py` reads the command line."""
