"""Networks exported for ONNX Runtime: how they are written, made smaller, and run."""
