"""The wire forms of the providers that a gateway of this router plays."""
