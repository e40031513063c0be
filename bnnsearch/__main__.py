"""`python -m bnnsearch` is the `bnnsearch` command."""

from bnnsearch.cli import main

main()
