"""Quantization-aware training: models that learn on their grid."""
