"""Pictures, by diffusers."""
