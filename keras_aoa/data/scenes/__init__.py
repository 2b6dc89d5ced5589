"""The built-in default data set: drawn pictures of a few objects with generated captions."""

from keras_aoa.data.scenes.dataset import ScenesSettings, prepare, read, write

__all__ = ["ScenesSettings", "prepare", "read", "write"]
