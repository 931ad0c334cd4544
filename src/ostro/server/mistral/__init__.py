"""Mistral's API: chat with its own fields, and fill-in-the-middle."""
