"""The ends of a WebSocket to a realtime model: the line itself, and who is spoken to."""
