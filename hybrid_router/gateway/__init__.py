"""What an AI Gateway decides, pure: controls, cache, rate, retries, steps, log.  The caller has the clock."""
