"""Networks of other tools: files of ONNX and of `torch.export` in."""
