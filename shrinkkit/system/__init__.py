"""The ground: files, cache, processor, memory allocator, pace. Nothing here knows of models."""

from shrinkkit.system.hardware import cpu_features
from shrinkkit.system.pace import scaled
