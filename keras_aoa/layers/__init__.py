"""Layers for any Keras 3 project, on any of its backends; they import keras alone."""

from keras_aoa.layers.attention import AreaAttention
from keras_aoa.layers.recurrent import AttentionGRUCell, AttentionRNN
from keras_aoa.layers.regions import GridRegions, Regions

__all__ = ["AreaAttention", "AttentionGRUCell", "AttentionRNN", "GridRegions", "Regions"]
