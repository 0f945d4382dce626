"""Sessions: the loop runs at the center, and its circuits run on a backend that C2 holds for it."""
