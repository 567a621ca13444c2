"""What of the machine's iptables rules is taken for the cluster's: all of it, and nobody else's. Needs no cluster."""

from __future__ import annotations

from testcluster.leftovers import Rules

OURS = r'-m comment --comment "dnat name: \"logstream-cluster\" id: \"1\""'
OTHERS = r'-m comment --comment "dnat name: \"podman\" id: \"2\""'


def rules(*lines: str) -> Rules:
    chains = {line.split()[1] for line in lines}
    return Rules("\n".join(["*nat", *(f":{chain} - [0:0]" for chain in sorted(chains)), *lines, "COMMIT"]))


def test_rules_that_lead_into_a_chain_go_before_the_chain() -> None:
    found = rules(
        "-A PREROUTING -m comment --comment services -j KUBE-SERVICES",
        "-A KUBE-SERVICES -j KUBE-SVC-1",
        "-A KUBE-SVC-1 -j RETURN",
        "-A PREROUTING -j DOCKER",
        "-A DOCKER -j RETURN",
    )
    assert found.removal() == [
        "-D PREROUTING -m comment --comment services -j KUBE-SERVICES",
        "-F KUBE-SERVICES",
        "-F KUBE-SVC-1",
        "-X KUBE-SERVICES",
        "-X KUBE-SVC-1",
    ]


def test_the_common_chains_of_ports_go_where_only_our_network_has_some() -> None:
    found = rules(
        "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        f"-A CNI-HOSTPORT-DNAT -p tcp {OURS} -j CNI-DN-1",
        "-A CNI-DN-1 -p tcp --dport 80 -j DNAT --to-destination 10.88.0.2:80",
    )
    assert found.removal() == [
        "-D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        "-F CNI-DN-1",
        "-F CNI-HOSTPORT-DNAT",
        "-X CNI-DN-1",
        "-X CNI-HOSTPORT-DNAT",
    ]


def test_the_common_chains_stay_where_another_network_uses_them() -> None:
    found = rules(
        "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        f"-A CNI-HOSTPORT-DNAT -p tcp {OURS} -j CNI-DN-1",
        f"-A CNI-HOSTPORT-DNAT -p tcp {OTHERS} -j CNI-DN-2",
        "-A CNI-DN-1 -p tcp --dport 80 -j DNAT --to-destination 10.88.0.2:80",
        "-A CNI-DN-2 -p tcp --dport 81 -j DNAT --to-destination 10.89.0.2:80",
    )
    assert found.removal() == [
        f"-D CNI-HOSTPORT-DNAT -p tcp {OURS} -j CNI-DN-1",
        "-F CNI-DN-1",
        "-X CNI-DN-1",
    ]


def test_another_network_alone_is_left_alone() -> None:
    found = rules(
        f"-A CNI-HOSTPORT-DNAT -p tcp {OTHERS} -j CNI-DN-2",
        "-A CNI-DN-2 -p tcp --dport 81 -j DNAT --to-destination 10.89.0.2:80",
    )
    assert found.removal() == []
