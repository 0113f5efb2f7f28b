"""Spyre cards of this machine: discovery, users, and leases, so that no two engines use the same card.

``discovery.py`` finds cards, ``holders.py`` finds processes with an open card, ``lease.py`` leases cards, and
``harness/pytest_plugin/cards.py`` connects them to pytest. docs/hardware.md has the sources of facts about cards.
"""
