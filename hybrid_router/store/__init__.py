"""What is remembered across restarts.  SQLAlchemy is imported here and nowhere else."""
