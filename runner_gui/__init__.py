"""The window: what a person sees and presses. It knows the trainer by its contract only."""
