"""What is kept of prompts that were computed: an index over prefixes, a store in memory, files behind it."""
