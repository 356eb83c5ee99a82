"""What an operator sees: log lines, loop lag, and the word to systemd.  Nothing here may break a call."""
