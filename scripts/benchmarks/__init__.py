"""What `scripts/bench` measures, a module for each sub-command."""
