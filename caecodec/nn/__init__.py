"""Networks: tensors in, tensors out; bytes are unknown here."""
