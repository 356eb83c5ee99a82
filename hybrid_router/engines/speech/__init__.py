"""Speech, by ONNX voices."""
