"""Generation, chat templates and the OpenAI-compatible server."""
