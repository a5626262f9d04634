"""The one idea: the same function with another transpose. Imports jax alone."""
