"""vLLM servers and the way to ask them: the server process, its guard, and rank 0's client over all replicas."""
