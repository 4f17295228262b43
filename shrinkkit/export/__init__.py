"""Write a quantized model in the formats that other programs open.

`compressed_tensors`: a folder that plain transformers (and vLLM) open without shrinkkit, its layers
in the words of `pack_quantized`.
"""

from shrinkkit.export.compressed_tensors import save_compressed_tensors
