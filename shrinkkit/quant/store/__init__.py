"""Quantized models on disk: saved, opened, and made block by block."""
