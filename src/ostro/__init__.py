"""ostro: the open-weight Mistral and Llama families on your own machine."""

__version__ = "0.1.0"
