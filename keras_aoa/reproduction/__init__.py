"""Reproduces the paper's tables and figures; trains the runs that are missing."""
