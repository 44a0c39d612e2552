"""Reads experiments and draws them. Importing it loads neither torch nor ray."""
