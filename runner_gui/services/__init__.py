"""What the window makes happen: child processes, the pipeline, the chat."""
