"""Original customer messages with intents, entities, summaries and questions (see README.md)."""
