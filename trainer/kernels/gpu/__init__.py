"""The recurrences on a GPU: Triton kernels, and what other packages offer."""
