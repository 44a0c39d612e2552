"""A trained model in forms that work without Glance: transformers and ONNX."""
