"""The HTTP server: one process that OpenAI, Mistral and Azure clients, and a person with a browser, can use."""
