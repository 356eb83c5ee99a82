"""Whether inputs are harmful: text and image classifiers, and guard models that write a verdict."""
