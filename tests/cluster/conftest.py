"""What tests of the local cluster may ask for."""

from cluster.toys import toys

__all__ = ["toys"]
