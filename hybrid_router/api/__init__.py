"""HTTP in: guard, routes and dialects.  A dialect never talks to a backend."""
