"""Tokens guessed ahead: looked up, written by a small model, or forced by the form of the answer."""
