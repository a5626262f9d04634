"""NNX networks with taps named as in their papers."""
