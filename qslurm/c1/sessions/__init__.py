"""Sessions: a loop runs at the center, and its circuits on a backend that C2 holds for it."""
