"""Guests of bnnsearch: a member of every family, each in one file."""
