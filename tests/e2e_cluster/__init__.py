"""Jobs on a real cluster, with the real images; `demo.py` is `make demo-cluster`."""
