"""The data doctor: what should be known about the rows before a model is trained on them."""
