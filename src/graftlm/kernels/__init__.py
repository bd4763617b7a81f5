"""Compiled parts for the CPU, each with a version in torch that decides the same random bits."""

from graftlm.kernels.attention import variable_length_attention
from graftlm.kernels.dropout import keyed_dropout
from graftlm.kernels.keys import example_keys, site_bases, token_keys
from graftlm.kernels.library import describe, load, missing_reason

__all__ = [
    "describe",
    "example_keys",
    "keyed_dropout",
    "load",
    "missing_reason",
    "site_bases",
    "token_keys",
    "variable_length_attention",
]
