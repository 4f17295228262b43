"""The key-value cache in fewer bits."""
