"""What a person, or a program, sees while a search runs."""
