"""Images and sound in conversations: read, encoded beside the decode loop, computed between its steps."""
