"""Everything that Workers AI does besides writing text: a module for each kind of task."""
