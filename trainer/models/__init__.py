"""RWKV models: what a checkpoint file is, and the forward pass of each generation."""
