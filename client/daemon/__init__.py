"""The hospital's daemon: it holds the data, the model and the policy, and answers what the relay brings.

opening.py      the site, opened once: store, base, model, keys
rules.py        the policy that holds now, and the gate that goes by it
orders.py       what the site's people told the daemon: pause, resume, withdraw; kept in the audit log
protections.py  how updates are protected in a run, from policy, ledger and declaration
desk.py         one question after the other: policy, hospital, gate, answer
sockets.py      Unix sockets, and who may come through them
control.py      the socket of the site's people, both ends
by_hand.py      their orders where no daemon runs
companion.py    the connection to the coordinator, beside the daemon
notify.py       telling systemd how the daemon is
serve.py        all of it, running
"""
