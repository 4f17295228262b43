"""Post-training quantization: a whole model, without data or with a little text."""
