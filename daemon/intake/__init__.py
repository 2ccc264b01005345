"""The intake: receives messages, keeps them in flight while the flow works, acknowledges them.

poller ── slots, gate, receive ──> ledger ──> worker ── flow ──> outcome ──> acknowledgements
                                     ▲           │
    heartbeat: extends visibility ───┘           └─ held: waits for a breaker
    timeouts and the leases of claims
"""
