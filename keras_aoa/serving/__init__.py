"""Exports trained captioners as TensorFlow SavedModels."""
