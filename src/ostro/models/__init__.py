"""Model files: the decoder, its rotary frequencies, and loading of weights into a backend."""
