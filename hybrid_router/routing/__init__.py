"""Who may serve a call, in which order.  Pure: facts in, decision out."""
