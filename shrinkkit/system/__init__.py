"""The ground: files, cache, processor, memory allocator, pace. Nothing here knows of models."""

from shrinkkit.system.pace import scaled
