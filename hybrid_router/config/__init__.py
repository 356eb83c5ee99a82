"""router.yaml → frozen structs, or a list of everything that is wrong with it."""
