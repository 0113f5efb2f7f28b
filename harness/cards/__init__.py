"""Find the Spyre cards of this machine and lease them, so that no two engines use the same card.

``discovery.py`` finds cards. ``holders.py`` finds the processes that have a card open. ``lease.py`` leases cards.
``harness/pytest_plugin/cards.py`` leases cards for the tests of a run. docs/hardware.md describes how vLLM and
torch-spyre select cards, with sources.
"""
