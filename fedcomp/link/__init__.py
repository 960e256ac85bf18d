"""Both ends of the wire as state machines: versions, exchanges, state stores, the ledger."""
