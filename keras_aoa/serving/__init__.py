"""Export trained captioners as TensorFlow SavedModels."""
