"""A real Kubernetes cluster of one node on a bare Debian 12 machine, for the tests and for people.

What each part is for, in the order in which `up` goes through them:

    host            what the machine must have and be; its packages
    binaries        Kubernetes and its neighbours, built once as Go module tools
    rootfs, images  the images: their base from Debian packages, ours from the project's own Dockerfiles
    certificates    who may speak to whom
    controlplane    etcd, API server, controller-manager, scheduler
    node            containerd, kubelet, kube-proxy
    addons          metrics-server, ingress-nginx with its admission webhook
    leftovers       finds and removes every trace, after `down` and after a crash alike

`cluster` puts them together, `__main__` is the command line, and the tests' `conftest.py` the other caller.
"""
