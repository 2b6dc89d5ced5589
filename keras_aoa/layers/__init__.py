"""Layers for any Keras 3 project, on any Keras backend; they depend only on Keras."""

from keras_aoa.layers.attention import AreaAttention
from keras_aoa.layers.hard_attention import HardAttention
from keras_aoa.layers.proposals import ProposalRegions
from keras_aoa.layers.recurrent import AttentionGRUCell
from keras_aoa.layers.regions import GridRegions, MeanRegion, Regions
from keras_aoa.layers.resampling import AffineResampling
from keras_aoa.layers.review_attention import ReviewAttention
from keras_aoa.layers.rnn import AttentionRNN
from keras_aoa.layers.semantic_attention import SemanticAttention
from keras_aoa.layers.soft_attention import SoftAttention
from keras_aoa.layers.transformer import TransformerRegions

__all__ = [
    "AffineResampling",
    "AreaAttention",
    "AttentionGRUCell",
    "AttentionRNN",
    "GridRegions",
    "HardAttention",
    "MeanRegion",
    "ProposalRegions",
    "Regions",
    "ReviewAttention",
    "SemanticAttention",
    "SoftAttention",
    "TransformerRegions",
]
