"""Everything RWKV: data, models, kernels, adapters, training and inference. No Qt."""

__version__ = "0.1.0"
