"""Layers that hold integers, and the kernels that multiply them."""
