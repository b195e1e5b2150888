"""The text classifier: forward pass, readouts, input checks, prediction, ONNX export."""
