"""The composition root: configuration → backends → service → listener.  The only room that knows all.

Nothing is imported here: who asks for a piece, such as what a model's files are, need not load the server.
"""
