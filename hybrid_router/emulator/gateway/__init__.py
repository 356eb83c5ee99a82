"""AI Gateway on loopback: a host that passes calls on to providers, and its management addresses."""
