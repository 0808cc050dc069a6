"""Networks (layer 2): tensors in, tensors out; bytes are unknown here."""
