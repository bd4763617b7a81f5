"""Compiled parts for the CPU, each with a version in torch that decides the same random bits."""
