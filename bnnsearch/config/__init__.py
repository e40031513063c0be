"""What can be asked for: every setting, its range and its one default. Pure pydantic, no torch, imports in milliseconds."""
