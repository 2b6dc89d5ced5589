"""The paper's tables, each from runs of `train.py` that are trained where they are missing."""
