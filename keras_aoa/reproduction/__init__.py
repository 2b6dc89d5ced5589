"""Reproduces the paper's tables and figures after training the missing runs."""
