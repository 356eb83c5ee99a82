"""What runs inside a child process.  Only engines import inference libraries."""
