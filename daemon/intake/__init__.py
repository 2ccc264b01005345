"""The intake engine: takes messages from the queue, keeps them while the flow works, and gives them
back or away.

poller ── slot, gate, receive ──> in-flight ledger ──> worker ── flow ──> outcome ──> acknowledgements
                                      │    ▲               │
                                  heartbeat (visibility     └─ held: waits for a breaker
                                  of messages, leases of claims)
"""  # noqa: E501
