"""Words shared by every folder.  Pure: no clock, no socket, no task, no log."""
