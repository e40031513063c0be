"""bnnsearch: find the best binary neural network for an accuracy and hardware budget."""

__version__ = "0.1.0"
