"""A packed network in C99 for a device: what its values are there, where they lie, and the files of the project."""
