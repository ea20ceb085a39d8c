"""Adapters of other tools, told by what is in them, as the tensors that `trainer.adapters.leaves` names."""
