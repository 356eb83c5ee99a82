"""What a picture shows: image classifiers."""
