"""The OpenAI dialect: wire to `Call`, events to wire.  Pure but for `endpoints`."""
