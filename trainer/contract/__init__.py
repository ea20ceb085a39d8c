"""What the window and the trainer share: parameters, events, run folder, adapter metadata, error codes."""
