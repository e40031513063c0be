"""Searches on more than one machine: cluster files and what is refused in them; starting, following, ending."""
