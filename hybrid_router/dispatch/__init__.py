"""Running a plan: one step after the other until one answers."""
