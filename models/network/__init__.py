"""The text classifier: forward pass, input checks, prediction, ONNX export."""
