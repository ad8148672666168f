"""How fast this project is beside its peers: ratios measured in one run, runs interleaved."""
