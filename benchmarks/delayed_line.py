"""A line to a ModelDB V1 on this machine with a network's latency. Prints its
port; runs until it is ended.

A process of its own, so that it takes no time from either of the clients that are measured. Calls
are only delayed, not kept in step: as many as a client sends are on their way at once.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.modeldb_v1_fault_proxy import fault_proxy


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=int, required=True, help="port of the server")
    parser.add_argument("--round-trip", type=float, required=True, help="in seconds")
    arguments = parser.parse_args()
    async with fault_proxy(arguments.server) as proxy:
        proxy.delay_seconds = arguments.round_trip / 2
        print(proxy.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
