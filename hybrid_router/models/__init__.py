"""Model files: which there are, where they lie, and whether they are what the manifest says."""
