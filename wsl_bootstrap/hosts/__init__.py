"""The only door to the outside: what a computer is, and how commands run on it."""
