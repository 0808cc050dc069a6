"""Where tensors and bytes meet: images to `.cae` files and back."""
