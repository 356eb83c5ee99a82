"""Workers AI on loopback: the documented contract, deterministic answers, faults on request.

For tests, for demonstrations, and for whoever tries the router without an account.
"""
