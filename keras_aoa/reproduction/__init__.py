"""Reproduction of the paper's tables and figures from runs that are trained if missing."""
