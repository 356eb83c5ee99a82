"""One child process per resident model, and the parent's side of it."""
