"""What pretraining takes from a text, for the model to put back: pure functions of tokens and keys."""
