"""Weights and configuration of a model from every form that users have on disk: HF, native and GGUF.

    from ostro.checkpoint.open import open_checkpoint
    checkpoint = open_checkpoint(Path("Mistral-7B-Instruct-v0.3"))
    checkpoint.config.num_hidden_layers, checkpoint.tensors["model.embed_tokens.weight"].shape

`open` decides the form and validates, `safetensors` and `gguf` read files, `folder` finds them, `names` translates.
"""
