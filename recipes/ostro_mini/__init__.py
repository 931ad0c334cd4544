"""ostro-mini, the model that ships with ostro: its data, tokenizer, training, evaluation and packaging.

`data.py` writes everything that the model is trained and measured on. The world is made up: names, numbers, tools,
schemas and facts are drawn from pools that `split.py` divides by construction, so that what the evaluation uses was
never emitted for training.
"""
