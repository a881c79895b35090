"""What runs a latent world's networks: PyTorch op by op (the reference), torch.compile, or ONNX Runtime on the CPU."""
