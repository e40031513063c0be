"""What each command does, from its arguments to its exit code; `cli.py` declares the arguments."""
