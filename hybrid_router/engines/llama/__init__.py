"""Text generation from GGUF files, on llama.cpp's low-level API."""
