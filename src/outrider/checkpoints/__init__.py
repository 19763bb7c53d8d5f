"""Model files: reading them (GGUF, safetensors), packing them for the kernels, keeping them."""
