"""Adapters: LoRA, their files, and merging them into a base model."""
