"""The project's real images, built from its Dockerfiles without a registry, and put where real nodes start pods.

`make images` builds them ahead. Each step is cached by content in the user's cache folder, so that after a change of
our code only the last small layer is built and carried on: seconds.

    base.py        a Python image of Debian's packages, in place of one from a registry
    build.py       Dockerfile -> image in buildah's storage
    containerd.py  a containerd of our own, and what it says
    carry.py       buildah's storage -> containerd, only what is new
    seed.py        a containerd root that has the images; each node of a test cluster starts from a clone of it
    on_cluster.py  such a cluster, for tests
"""
