"""The embedded default data set: pictures of a few objects, drawn and told from a seed."""

from keras_aoa.data.scenes.dataset import ScenesSettings, prepare, read, write

__all__ = ["ScenesSettings", "prepare", "read", "write"]
