"""A page on this machine that captions the photographs dropped on it."""
