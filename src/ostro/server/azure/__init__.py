"""The Azure AI Inference API."""
