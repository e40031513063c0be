"""What can be asked for: every setting, its range and its one default. Pure pydantic: imports in milliseconds."""
