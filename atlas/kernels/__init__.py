"""The seed's kernels: templates as pure functions, and the learnable banks that start from them."""
